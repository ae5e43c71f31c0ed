"""Samples to be measured: drawn and kept in the cache of the run, or read from a file."""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.builders import SamplingPlan, values_of
from iddpm.builders.run_data import Split, open_other
from iddpm.config import ResolvedConfig
from iddpm.data.fingerprint import fingerprint
from iddpm.data.formats import ARRAYS
from iddpm.data.levels import to_model_range
from iddpm.data.sources.arrays import LABEL_KEYS, data_key
from iddpm.data.sources.npy import read_npz
from iddpm.data.values import Values, natural_values
from iddpm.data.writers.image_files import save_npz
from iddpm.runs.layout import read_run_config, read_run_weights
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_json
from iddpm.runtime.console import progress_bar
from iddpm.runtime.errors import in_words
from iddpm.runtime.made_files import partly_made
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.runtime.seeds import stream
from iddpm.tasks.pairs import Pairs
from iddpm.training.checkpoints.weights import hash_weights

Part = tuple[Tensor, Tensor | None]
"""Samples [N, C, *spatial] and their classes [N]."""


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples in [-1, 1], rounded to the data's levels, and where they come from.

    Attributes:
        x: [N, C, *spatial] on the CPU.
        y: [N] requested classes, or None.
        facts: how they were made.
    """

    x: Tensor
    y: Tensor | None
    facts: dict[str, Any]


def draw_samples(
    run: Run,
    n: int,
    settings: Mapping[str, Any],
    split: Split,
    seed: int,
    classes: int | str | None,
    console: Console,
    ranks: Ranks = ALONE,
    pairs: Pairs | None = None,
) -> Samples:
    """Draw samples, or continue an interrupted evaluation with the same key.

    They lie in the run's cache, rounded to the data's levels; sample k depends on the seed, its
    class and k alone, so that more of them can be drawn later. Of several ranks each keeps the
    parts that it drew; all return all samples. A run of super-resolution draws from ``pairs``.
    """
    with ranks.together():
        plan = run.plan(**settings)
        facts = _facts(run, plan, settings, seed, classes) | _conditioning_facts(split)
        labels = _labels(plan, split, n, seed, classes)
        conditioning = _conditioning(split, n, seed, None if classes is None else labels)
        if pairs is not None:
            conditioning = pairs.given
            facts["low_res" if run.task.takes_low_res else "held_out"] = pairs.facts
            if classes is None:
                facts["classes"] = "those of the items"
                labels = pairs.classes(plan)
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    directory = run.directory / "cache" / f"samples_{name}"
    levels = natural_values(run.config.bits)
    done = ranks.by_first(lambda: _kept(directory, n, levels))
    count = sum(len(x) for x, _ in done)
    if count < n:
        with ranks.together():
            batches = run.sample_batches(
                n - count,
                plan,
                seed=seed,
                classes=classes if labels is None else labels[count:],
                given={name: rows[count:] for name, rows in conditioning.items()},
                start=count,
                turns=ranks.turns,
                on_step=lambda number, _: progress.advance(task, min(number, 1)),
            )
        can_keep = ranks.by_first(lambda: _begin(directory, facts))
        console.print(f"drawing {n - count} samples, each {plan}", markup=False)

        def drawn(folder: Path) -> Iterator[Part]:
            for batch in batches:
                path = folder / f"{batch.start:08d}.npz"
                save_npz(batch.x, path, labels=batch.y, bits=run.config.bits)
                yield _read_npz(path, levels)

        with TemporaryDirectory() as other, progress_bar(console, "sampling") as progress:
            batch_count = -(-(n - count) // plan.sampling.batch_size)
            total = len(plan.schedule) * -(-batch_count // ranks.count)
            task = progress.add_task("sampling", total=total)
            done += ranks.in_rounds(drawn(directory if can_keep else Path(other)), batch_count)
    x = torch.cat([part for part, _ in done])[:n]
    parts = [y for _, y in done if y is not None]
    return Samples(x, torch.cat(parts)[:n] if parts else None, facts)


def read_samples(path: Path, config: ResolvedConfig) -> Samples:
    """Read samples from a .npz file: ``arr_0`` [N, *spatial, C], class numbers in ``arr_1``.

    A .npz of another name's only array, and a .npy file, are read too.

    Raises:
        ValueError: they are not what the model of these settings draws.
    """
    part = partly_made(path if path.is_dir() else path.parent)
    if part:
        raise ValueError(part)
    if path.is_dir():
        raise ValueError(
            f"{path} is a directory, and samples are measured from one file: give "
            f"{path / 'samples.npz'}, which iddpm sample --npz writes"
        )
    if path.suffix.lower() not in ARRAYS:
        raise ValueError(f"{path} holds no samples: give a .npz or .npy file")
    layout = {1: "NLC", 2: "NHWC", 3: "NDHWC"}[len(config.model.size)]
    # How the run's own data is labeled, chosen, resized and cut says nothing about the file.
    own = {"labels": "auto", "column": None, "image_size": None, "window": None, "stride": None}
    own["sample_rate"] = None
    data = config.data.model_copy(update={"layout": layout, **own})
    # It finds what does not fit and says so.
    open_other(config.model_copy(update={"data": data}), path)
    x, y = _read_any(path, values_of(config))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Samples(x, y, {"file": str(path), "sha256": digest, "rounded_to_bits": config.bits})


def _facts(
    run: Run, plan: SamplingPlan, settings: Mapping[str, Any], seed: int, classes: int | str | None
) -> dict[str, Any]:
    """Return what defines samples that are drawn."""
    network = run.denoiser.network
    assert isinstance(network, torch.nn.Module)
    sampling = plan.sampling.model_dump(mode="json")
    del sampling["batch_size"]
    return {
        "weights": hash_weights(network.state_dict()),
        "sampling": sampling,
        "walk": str(plan),
        "guides": _guides(settings),
        "seed": seed,
        "classes": "as in the training data" if classes is None else str(classes),
        "rounded_to_bits": run.config.bits,
    }


def _begin(directory: Path, facts: Mapping[str, Any]) -> bool:
    """Begin to keep samples; say whether that is possible, which it is not in a read-only run."""
    try:
        write_json(directory / "facts.json", facts)
    except OSError as error:
        warnings.warn(
            "the samples are not stored, so an interrupted evaluation starts again: "
            f"{in_words(error)}",
            stacklevel=2,
        )
        return False
    return True


def _kept(directory: Path, n: int, values: Values) -> list[Part]:
    """Read the parts that an interrupted evaluation left, as far as one follows another."""
    done: list[Part] = []
    count = 0
    for path in sorted(directory.glob("[0-9]*.npz")):
        if int(path.stem) == count < n:
            done.append(_read_npz(path, values))
            count += len(done[-1][0])
    return done


def _read_any(path: Path, values: Values) -> Part:
    """Read samples whatever their array is called; the source of this file has checked it."""
    if path.suffix.lower() == ".npy":
        return _levels(path, np.load(path, allow_pickle=False), values), None
    members = read_npz(path)
    label_key = next((key for key in LABEL_KEYS if key in members), None)
    stored = members[data_key(path, members, label_key)]
    labels = None if label_key is None else members[label_key].reshape(-1)
    y = None if labels is None else torch.from_numpy(labels.astype(np.int64))
    return _levels(path, stored, values), y


def _read_npz(path: Path, values: Values) -> Part:
    with np.load(path, allow_pickle=False) as arrays:
        stored = arrays["arr_0"]
        y = torch.from_numpy(arrays["arr_1"].astype(np.int64)) if "arr_1" in arrays else None
    return _levels(path, stored, values), y


def _levels(path: Path, stored: NDArray[Any], values: Values) -> Tensor:
    """Return items [N, *spatial, C] as [N, C, *spatial] in [-1, 1]."""
    stored = np.moveaxis(stored, -1, 1)
    if not values.natural:  # those of a run's cache are levels
        stored = values.read(stored, path.name, range(len(stored)))
    return to_model_range(np.ascontiguousarray(stored), values.bits)


def _labels(
    plan: SamplingPlan, split: Split, n: int, seed: int, wanted: int | str | None
) -> list[int] | None:
    """Return the class of each sample, as often as the training data has it unless one is wanted.

    None for samples without classes.
    """
    if plan.classes is None:
        return None
    known = split.source.labels
    if wanted is not None or known is None:
        return [int(k) for k in plan.classes.labels(n, seed, wanted)]
    known = known[split.train]
    known = known[known >= 0]
    if not len(known):
        return [int(k) for k in plan.classes.labels(n, seed)]
    return [int(known[place]) for place in _places(n, seed, len(known))]


def _conditioning(split: Split, n: int, seed: int, wanted: list[int] | None) -> dict[str, Tensor]:
    """Return the conditioning of each sample, drawn as for training items.

    ``wanted`` are the requested classes, if any: then the item has this class.
    """
    source = split.source
    if source.conditions is None and source.given is None:
        return {}
    train = split.train
    if wanted is not None and source.labels is not None:
        train = train[source.labels[train] == wanted[0]]
        if not len(train):
            raise ValueError(
                f"{source.name} has no training items of class {source.class_names[wanted[0]]}"
            )
    items = train[_places(n, seed, len(train))]
    conditioning = {}
    if source.conditions is not None:
        conditioning["conditions"] = torch.from_numpy(source.conditions[items])
    if source.given is not None:
        conditioning["given"] = to_model_range(source.given.read_many(items), source.given.bits)
    return conditioning


def _conditioning_facts(split: Split) -> dict[str, Any]:
    """Return what identifies the possible conditioning of samples."""
    facts = {}
    if split.source.conditions is not None:
        conditioning = split.source.conditions[split.train].astype("<f4")
        digest = hashlib.sha256(conditioning.tobytes()).hexdigest()
        facts["conditions"] = f"as in the training data ({digest[:16]})"
    if split.source.given is not None:
        digest = hashlib.sha256(json.dumps(fingerprint(split.source.given)).encode()).hexdigest()
        facts["given"] = f"as in the training data ({digest[:16]})"
    return facts


def _places(n: int, seed: int, count: int) -> list[int]:
    """Return the training item whose conditioning each sample has."""
    return [int(stream(seed, "evaluated class", index=k).integers(count)) for k in range(n)]


def _guides(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return what identifies the other models that have a part in the samples."""
    found: dict[str, str] = {}
    for guide in ("classifier", "autoguidance"):
        if settings.get(guide) is None:
            continue
        found |= {k: str(v) for k, v in settings.items() if k.startswith(guide) and v is not None}
        directory = Path(str(settings[guide]))
        if directory.is_dir():
            weights, _ = read_run_weights(directory, read_run_config(directory))
            found[f"{guide}_hash"] = hash_weights(weights)
    return found
