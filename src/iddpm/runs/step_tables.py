"""The table of a model's steps, measured once and kept in the cache of its run."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from iddpm.builders.run_data import on_device
from iddpm.data.batches import held_out_batches
from iddpm.diffusion import Denoise, Denoiser, Level, Prediction
from iddpm.evaluation.bound_terms import ItemNoise
from iddpm.evaluation.step_costs import Group, StepTable, measure_steps
from iddpm.runs.opened_run import OpenedRun
from iddpm.runtime.atomic_files import write_atomically
from iddpm.runtime.console import open_console, progress_bar
from iddpm.runtime.errors import warned
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.training.checkpoints.weights import hash_weights
from iddpm.training.precision import Precision, PrecisionName

FORMAT = 1
CACHE = "cache"
TABLE_ITEMS = 64
"""Number of training items: T evaluations of the network for each."""


def weights_digest(denoiser: Denoiser) -> str:
    """Return a hash of all weights: the same for every copy of a model."""
    assert isinstance(denoiser.network, nn.Module)
    return hash_weights(denoiser.network.state_dict())


def find_table(directory: Path, denoiser: Denoiser) -> StepTable:
    """Return the table of this model with the most items.

    Raises:
        FileNotFoundError: there is none; the message names the command that makes it.
    """
    wanted = weights_digest(denoiser)
    found: list[tuple[int, Path]] = []
    for path in sorted((directory / CACHE).glob("steps_*.safetensors")):
        key = _read_key(path)
        if key is not None and key["format"] == FORMAT and key["weights"] == wanted:
            found.append((key["items"], path))
    if not found:
        raise FileNotFoundError(
            f"{directory} has no table of steps for these weights yet: make it with iddpm "
            f"likelihood {directory} --stride optimal --steps 32"
        )
    return _read(max(found)[1], denoiser)


@dataclass(frozen=True)
class Measuring:
    """Options of measuring a bound.

    Attributes:
        bits: depth of the data; None for continuous data.
        clip: keep the estimate of x0 within [-1, 1].
        seed: of the noise.
        batch_size: items at a time.
        precision: how the network computes.
    """

    bits: int | None = 8
    clip: bool = True
    seed: int = 0
    batch_size: int = 64
    precision: PrecisionName = "float32"


def step_table(
    run: OpenedRun,
    how: Measuring,
    *,
    items: int = TABLE_ITEMS,
    console: Console | None = None,
    ranks: Ranks = ALONE,
) -> StepTable:
    """Return the table of a model's steps, measured on training items unless it is in the cache.

    It uses training items, so that strides and variances chosen by it are measured on other items.

    Args:
        run: the model.
        how: options of the measurement.
        items: number of training items, spread evenly; at most all.
        console: for progress.
        ranks: the processes that share the work; the first keeps the cache.
    """
    with ranks.together():
        run.task.check_denoises(run.directory, "a table of steps")
        if items < 1:
            raise ValueError(f"a table of steps needs at least one item, not {items}")
    key = {
        "format": FORMAT,
        "weights": weights_digest(run.denoiser),
        "diffusion": run.config.diffusion.model_dump(mode="json"),
        "data": run.config.data.model_dump(mode="json"),
        "items": items,
        "bits": how.bits,
        "clip": how.clip,
        "seed": how.seed,
        "precision": how.precision,
    }
    text = json.dumps(key, sort_keys=True)
    name = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    path = run.directory / CACHE / f"steps_{name}.safetensors"
    known = ranks.by_first(lambda: _read(path, run.denoiser) if _read_key(path) == key else None)
    if known is not None:
        return known
    console = console or open_console(ranks.first)
    table = _measured(run, how, items, console, ranks)
    tensors = {name: value.contiguous() for name, value in table.tensors().items()}

    def keep() -> None:
        with warned("the table of steps is not kept"):
            write_atomically(path, lambda temporary: save_file(tensors, temporary, {"key": text}))
            console.print(f"wrote {path}", markup=False)

    ranks.by_first(keep)
    return table


def _measured(
    run: OpenedRun, how: Measuring, items: int, console: Console, ranks: Ranks
) -> StepTable:
    """Measure the table of a model's steps."""
    denoiser, device = run.denoiser, run.device
    with ranks.together():
        source, train, _ = run.open_split()
    chosen = spread(train, items)
    steps = len(denoiser.diffusion.schedule)
    with progress_bar(console, "looking at every step") as progress:
        rounds = -(-steps // ranks.count)
        task = progress.add_task("steps", total=rounds * -(-len(chosen) // how.batch_size))

        def groups() -> Iterator[Group]:
            for start in range(0, len(chosen), how.batch_size):
                part = chosen[start : start + how.batch_size]
                with ranks.together():
                    batch = next(held_out_batches(source, part, batch_size=how.batch_size))
                for x0, conditioning in on_device([batch], run.config, device):
                    noise = ItemNoise(
                        how.seed, batch.items.tolist(), source.shape, device, purpose="step table"
                    )
                    yield Group(x0, noise, conditioning)

        return measure_steps(
            in_precision(denoiser, run.precision(how.precision)),
            denoiser.diffusion,
            groups(),
            bits=how.bits,
            clip=how.clip,
            on_step=lambda: progress.advance(task),
            ranks=ranks,
        )


def spread(items: NDArray[np.int64], count: int | None) -> NDArray[np.int64]:
    """Return ``count`` of the items, evenly spread, or all of them."""
    if count is None or count >= len(items):
        return items
    return items[np.linspace(0, len(items) - 1, count).round().astype(np.int64)]


def in_precision(denoise: Denoise, precision: Precision) -> Denoise:
    """Return the model with only its network in this precision."""

    def computed(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        with precision.autocast():
            return denoise(x_t, level, **conditioning)

    return computed


def _read_key(path: Path) -> dict[str, Any] | None:
    """Return the facts of a stored table; None if the file is missing or damaged."""
    try:
        with safe_open(path, "pt") as file:
            key: dict[str, Any] = json.loads(file.metadata()["key"])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError):
        return None
    return key


def _read(path: Path, denoiser: Denoiser) -> StepTable:
    diffusion = denoiser.diffusion
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return StepTable.from_tensors(diffusion.schedule, diffusion.variance, tensors)
