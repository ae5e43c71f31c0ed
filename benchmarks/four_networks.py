"""Four trained networks, their samples and the measures of these, for several benchmarks.

The networks are those of ``make run-digits``, ``run-emoji``, ``run-signals`` and ``run-volumes``,
trained with the same settings into the same directories if they are missing. Samples and measures
are kept beside the run, part by part, so that a benchmark can be stopped and repeated.
"""

import argparse
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.runs import digits, emoji, signals, volumes
from benchmarks.runs.common import judge, prepared, trained
from iddpm.config import read_config
from iddpm.data.levels import to_model_range, to_stored_range
from iddpm.evaluation.distances import Estimate
from iddpm.evaluation.measures import measure
from iddpm.evaluation.reference import PAIRS, evenly
from iddpm.evaluation.tuning import spread_within
from iddpm.evaluation.whitening import Whitening
from iddpm.runs.run import Run
from iddpm.runs.step_tables import CACHE, spread, weights_digest
from iddpm.runtime.atomic_files import write_atomically, write_json
from iddpm.runtime.console import open_console
from iddpm.runtime.processes import ALONE
from iddpm.tasks.extractors import Compared, open_extractor
from iddpm.tasks.real_statistics import REFERENCE_ITEMS, RealData, by_parts, statistics_of

INTERVAL = 1.96
"""Standard errors of half a 95 % interval."""


@dataclass(frozen=True)
class Network:
    """A network and how its samples are measured.

    Attributes:
        prepare: makes the data.
        example: its settings.
        settings: those that differ from the example's.
        judge: settings of the classifier whose features compare samples; None for ``pca``.
        classifier: its directory, that of the real run, by the directory of the network.
        samples: of each row of a table.
        ancestral: steps of the ancestral sampling that others are compared with.
        part: samples that are drawn and kept together.
    """

    prepare: Callable[[], Path | str]
    example: str
    settings: Sequence[str] = ()
    judge: Sequence[str] | None = None
    classifier: Callable[[Path], Path] = digits.classifier_of
    samples: int = 1000
    ancestral: int = 1000
    part: int = 100


NETWORKS: Mapping[str, Network] = {
    "digits": Network(lambda: "mnist5k", digits.EXAMPLE, digits.SHORT, digits.JUDGE, samples=5000),
    "emoji": Network(partial(emoji.prepare, "RGB"), emoji.EXAMPLE),
    "signals": Network(
        signals.prepare,
        signals.EXAMPLE,
        (),
        (*signals.CUT, "training.steps=600"),
        lambda out: out / "classifier",
    ),
    # 250 ancestral steps take hours on crops, and 1,000 a day.
    "volumes": Network(volumes.prepare, volumes.EXAMPLE, samples=300, ancestral=250, part=20),
}


@dataclass(frozen=True, eq=False)
class Teacher:
    """A network of :data:`NETWORKS`, trained, and the features that compare its samples."""

    name: str
    network: Network
    run: Run
    features: str


def chosen(
    parser: argparse.ArgumentParser, text: str, known: Iterable[str], what: str
) -> list[str]:
    """Return the names of an option, all of them for ``all``; end with a sentence for others."""
    names = list(known)
    found = names if text == "all" else [name for name in text.split(",") if name]
    for name in found:
        if name not in names:
            parser.error(f"there is no {what} {name!r}: use {', '.join(names)}, or all")
    return found


def stop_after(minutes: float | None) -> None:
    """End this process after so many minutes as a batch system would: a training saves first."""
    if minutes is not None:
        timer = threading.Timer(60 * minutes, os.kill, (os.getpid(), signal.SIGTERM))
        timer.daemon = True
        timer.start()


def teacher_of(name: str, folder: Path, times: int = 1, more: Sequence[str] = ()) -> Teacher:
    """Return a network, after training it and its classifier as far as that is still to be done.

    Args:
        name: of :data:`NETWORKS`.
        folder: of the runs.
        times: how many times as many steps as the real run's it is trained for.
        more: further settings.
    """
    network = NETWORKS[name]
    out = folder / (name if times == 1 else f"{name}_x{times}")
    settings = [*network.settings, *more]
    steps = read_config(network.example, settings).training.steps
    data = prepared(network.prepare)  # type: ignore[arg-type]
    run = trained(data, out, network.example, [*settings, f"training.steps={times * steps}"])
    features = "pca"
    if network.judge is not None:
        features = judge(data, network.classifier(folder / name), network.judge)
    return Teacher(name, network, run, features)


_PRECISIONS: dict[str, str] = {}
"""What was measured to be faster, by run: once in a process."""


class Drawn(NamedTuple):
    """Samples in [-1, 1], [N, C, *spatial], and the seconds of each."""

    x: Tensor
    seconds: float


def draw(run: Run, settings: Mapping[str, Any], count: int, part: int) -> Drawn:
    """Return samples, rounded to the levels of the data; parts that were drawn before are read."""
    key = "_".join(f"{name}{value}" for name, value in sorted(settings.items()))
    kept = run.directory / "benchmark" / weights_digest(run.denoiser)[:12] / key
    kept.mkdir(parents=True, exist_ok=True)
    name = _PRECISIONS.get(str(run.directory)) or run.precision("auto").name
    _PRECISIONS[str(run.directory)] = name
    plan = run.plan(**settings, precision=name, batch_size=part)
    bits, parts, seconds = run.config.bits, [], 0.0
    for start in range(0, count, part):
        path, size = kept / f"{start:06d}.npz", min(part, count - start)
        if not path.is_file():
            began = time.monotonic()
            batches = run.sample_batches(part, plan, start=start)
            x = torch.cat([batch.x for batch in batches]).clamp(-1, 1)
            spent = (time.monotonic() - began) / part
            stored = x.numpy() if bits is None else to_stored_range(x, bits).numpy()
            write_atomically(path, partial(_save, x=stored, seconds=spent))
        with np.load(path) as file:
            seconds += float(file["seconds"]) * size
            x = file["x"][:size]
        parts.append(torch.from_numpy(x) if bits is None else to_model_range(x, bits))
    return Drawn(torch.cat(parts), seconds / count)


def _save(path: Path, **arrays: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)


@dataclass(frozen=True)
class Row:
    """The measures of some samples.

    Attributes:
        distance, error: Frechet distance to the training items, and its standard error.
        precision, recall, coverage: of :mod:`iddpm.evaluation.precision_recall`.
        spread: distance of the samples to their neighbors, in that of as many real items.
        milliseconds: of a sample.
    """

    distance: float
    error: float
    precision: float
    recall: float
    coverage: float
    spread: float
    milliseconds: float = field(default=0.0)

    @property
    def estimate(self) -> Estimate:
        """The distance and its error."""
        return Estimate(self.distance, self.error)


HEAD = ["distance", "of ancestral", "precision", "recall", "coverage", "spread", "ms per sample"]


class Ruler:
    """Measures samples by features against the training items; what was measured is kept."""

    def __init__(self, teacher: Teacher) -> None:
        run = teacher.run
        self.folder = run.directory / "benchmark" / "measures"
        split = run.open_split()
        compared = Compared(str(run.directory), split.source, split.train, run.device)
        self.extractor, _ = open_extractor(teacher.features, None, compared)
        real = RealData(split.source, spread(split.train, REFERENCE_ITEMS), run.config.bits)
        self.reference = statistics_of(
            real, self.extractor, run.directory / CACHE, open_console(speaks=False), ALONE
        )

    def row(self, name: str, samples: Callable[[], Drawn]) -> Row:
        """Return the measures of samples by a name that nothing else has; drawn if not known."""
        path = self.folder / f"{self.extractor.hash[:12]}_{name}.json"
        if path.is_file():
            return Row(**json.loads(path.read_text(encoding="utf-8")))
        drawn = samples()
        row = self.measured(drawn.x, 1000 * drawn.seconds)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, asdict(row))
        return row

    def measured(self, x: Tensor, milliseconds: float = 0.0) -> Row:
        """Measure samples."""
        features = by_parts(self.extractor, x, ALONE)
        whiten, beside = self.extractor.whiten, self.extractor.beside
        pairs = min(len(x), PAIRS)
        found = measure(features, self.reference, pairs, whiten=whiten, beside=beside)
        real = self.reference.features[evenly(len(self.reference.features), len(features))]
        if whiten:
            white = Whitening.of(self.reference.stats)
            features, real = white(features), white(real)
        shares = {
            name: float(getattr(found.values[name], "value", found.values[name]))
            for name in ("precision", "recall", "coverage")
        }
        value, error = found.frechet
        inside = spread_within(features, real)
        return Row(value, error, **shares, spread=inside, milliseconds=milliseconds)


class Ratio(NamedTuple):
    """A distance over another one, and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return it for a table."""
        return f"x{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def ratio(row: Row, mark: Row) -> Ratio:
    """Return the ratio of two distances, whose errors are taken to be independent."""
    value = row.distance / mark.distance
    relative = ((row.error / row.distance) ** 2 + (mark.error / mark.distance) ** 2) ** 0.5
    half = INTERVAL * value * relative
    return Ratio(value, value - half, value + half)


def cells(row: Row, mark: Row | None) -> list[str]:
    """Return the cells of :data:`HEAD`."""
    return [
        f"{row.distance:.3f} ± {INTERVAL * row.error:.3f}",
        "" if mark is None else str(ratio(row, mark)),
        *(f"{value:.3f}" for value in (row.precision, row.recall, row.coverage, row.spread)),
        f"{row.milliseconds:.1f}",
    ]


def verdict(what: str, found: Ratio, goal: float) -> str:
    """Say whether a ratio reaches its goal: by its value, and by its interval."""
    if found.value <= goal:
        return f"{what}: {found}, goal {goal:.2f}: reached"
    missed = f"missed by {found.value / goal - 1:.0%}"
    within = ", though the interval contains it" if found.low <= goal else ""
    return f"{what}: {found}, goal {goal:.2f}: {missed}{within}"
