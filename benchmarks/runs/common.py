"""What the real runs share: carriers of data, training that goes on, and tables of measures."""

import importlib.util
import lzma
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import iddpm
from iddpm.builders.run_data import open_split
from iddpm.config import Config
from iddpm.data.levels import to_model_range, to_stored_range
from iddpm.evaluation.measures import Measures
from iddpm.runs.classifier import SETTINGS as CLASSIFIER_SETTINGS
from iddpm.runs.layout import CONFIG
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_text
from iddpm.tasks.evaluate import Evaluation, evaluate
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.likelihood_report import write_likelihood
from iddpm.tasks.train import train_until_stop
from iddpm.tasks.training_setup import TrainRequest

DATA = Path("runs/data")
PICTURES = Path("docs/runs")
FAST = {"precision": "auto", "batch_size": 100}
"""How samples are drawn that are measured."""


def installed(package: str, path: str, command: str) -> Path:
    """Return a file that an installed package carries; the package itself is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is not None and spec.origin is not None:
        file = Path(spec.origin).parent / path
        if file.is_file():
            return file
    raise FileNotFoundError(f"{package} is not installed; run: {command}")


def prepared(prepare: Callable[[], Path]) -> Path:
    """Return the data that ``prepare`` makes; one sentence says what has to be installed first."""
    try:
        return prepare()
    except FileNotFoundError as error:
        raise SystemExit(str(error)) from None


def trained(
    data: Path | str,
    out: Path,
    example: str | None,
    settings: Sequence[str] = (),
    base: dict[str, Any] | None = None,
) -> Run:
    """Train as ``iddpm train DATA -c EXAMPLE`` does, or go on with what is in ``out``."""
    going_on = (out / CONFIG).is_file()
    _, reason = train_until_stop(
        TrainRequest(
            None if going_on else data,
            config=None if going_on else example,
            settings=() if going_on else settings,
            base=None if going_on else base,
            out=out,
            resume=going_on,
        )
    )
    if reason.exit_status:
        raise SystemExit(reason.exit_status)
    return Run(out)


def judge(data: Path | str, out: Path, settings: Sequence[str] = ()) -> str:
    """Train a classifier as ``iddpm train-classifier DATA`` does, and return its directory."""
    trained(data, out, None, ["task=classification", *settings], base=CLASSIFIER_SETTINGS)
    return str(out)


def items(config: Config) -> tuple[Tensor, Tensor]:
    """Return the items that a run is trained on and those held out, [N, C, *spatial] in [-1, 1]."""
    source, train, held_out = open_split(config)
    return (
        to_model_range(source.read_many(train), source.bits),
        to_model_range(source.read_many(held_out), source.bits),
    )


def bound(run: Run, **settings: Any) -> str:
    """Measure and write the likelihood of the held-out items, as ``iddpm likelihood`` does."""
    found = likelihood(run, precision="auto", **settings)
    write_likelihood(found, run.directory / "likelihood", "report")
    return f"{found.total.mean:.3f} +- {found.total.error:.3f}"


@dataclass(frozen=True, eq=False)
class Other:
    """Another model that a run is compared with.

    Attributes:
        name: for the table and the picture.
        samples: [N, C, *spatial], about [-1, 1].
        likelihood: of the held-out items, with its error.
    """

    name: str
    samples: Tensor
    likelihood: str = ""


def packed(parts: Iterable[Tensor]) -> str:
    """Return what xz makes of 8-bit data [..., *spatial] in [-1, 1], in bits per dimension.

    Parts are compressed apart, as when they overlap.
    """
    spent = [(xz(to_stored_range(part, 8).numpy().tobytes()), part.numel()) for part in parts]
    return f"{8 * sum(size for size, _ in spent) / sum(count for _, count in spent):.3f}"


def xz(content: bytes) -> int:
    """Return how many bytes are left, without the file's head."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9}]
    return len(lzma.compress(content, lzma.FORMAT_RAW, filters=filters))


def spread(x: Tensor, count: int) -> Tensor:
    """Return ``count`` of the items, from all over, since neighbors are alike."""
    return x[torch.linspace(0, len(x) - 1, min(count, len(x))).long()]


def compare(
    run: Run,
    likelihood: str,
    others: Sequence[Other],
    *,
    features: str,
    n: int,
    steps: int,
    xz: str | None = None,
) -> list[list[str]]:
    """Measure samples of the run and of others, and held-out items, against the training data.

    A distance of fewer items is larger: the second column takes as many samples as were held out,
    and so do the columns after it.

    Args:
        run: the model.
        likelihood: its likelihood, for the table.
        others: what it is compared with.
        features: as for ``iddpm evaluate``.
        n: samples to draw.
        steps: network evaluations for each.
        xz: of :func:`packed`.
    """
    kind = "pca" if features == "pca" else "classifier"
    folder = run.directory / "evaluation" / kind
    own = evaluate(run, features=features, n=n, sampling={**FAST, "steps": steps}, out=folder)
    assert own.held_out is not None
    few = own.held_out.count
    rows = [_head(own, n, few), _row("the model", likelihood, own)]
    for other in others:
        path = save_samples(other.samples, run, folder / f"{other.name}.npz")
        judged = evaluate(run, features=features, samples=path, out=folder / other.name)
        rows.append(_row(other.name, other.likelihood, judged))
    mark = own.held_out
    if xz is not None:
        rows.append(["xz", xz, *[""] * 7])
    rows.append([f"{few} held-out items", "", "", *_cells(mark), ""])
    return rows


def save_samples(x: Tensor, run: Run, path: Path) -> Path:
    """Write another model's samples [N, C, *spatial] for ``iddpm evaluate --samples``."""
    ends, x = run.config.data.range, x.clamp(-1, 1)
    if run.config.bits is None and isinstance(ends, tuple):
        x = (ends[0] + (x.double() + 1) * (ends[1] - ends[0]) / 2).clamp(*ends).float()
    return iddpm.save_npz(x, path, bits=run.config.bits)


def _head(found: Evaluation, n: int, few: int) -> list[str]:
    measures = ["kernel distance", "precision", "recall", "coverage", "near copies"]
    name = found.report["frechet_name"].replace("Frechet distance", "Frechet")
    return ["", "likelihood", f"{name} of {n}", f"of {min(n, few)}", *measures]


def _row(name: str, likelihood: str, found: Evaluation) -> list[str]:
    copies = found.memorisation
    share = "" if copies is None else f"{100 * copies.copies:.1f} %"
    whole = found.samples.frechet
    few = found.as_many or found.samples
    return [name, likelihood, f"{whole.value:.3g} +- {whole.error:.1g}", *_cells(few), share]


def _cells(found: Measures) -> list[str]:
    kernel = found.kernel
    return [
        f"{found.frechet.value:.3g}",
        f"{kernel.value:.2g} +- {kernel.error:.1g}",
        *(f"{found.values[name]:.2f}" for name in ("precision", "recall", "coverage")),
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, the first of them the head, in Markdown."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def finish(parts: Sequence[str], out: Path, started: float) -> None:
    """Write and print the report of a run, with how long it took since ``started``."""
    spent = os.times()
    time_taken = (
        f"{(spent.user + spent.system) / 60:.1f} minutes of processor time in "
        f"{torch.get_num_threads()} threads, {(time.monotonic() - started) / 60:.1f} minutes in all"
    )
    text = "\n".join([*parts, time_taken, ""])
    path = write_text(out / "report.md", text)
    print(f"\n{text}wrote {path}")
