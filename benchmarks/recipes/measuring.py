"""What is measured of a trained row, and how certain it is."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.recipes.data_sets import DataSet
from benchmarks.recipes.judges import Judge
from benchmarks.runs.common import FAST
from iddpm.evaluation.measures import Measures, measure
from iddpm.evaluation.nearest_items import memorization
from iddpm.evaluation.reference import PAIRS
from iddpm.runs.run import Run
from iddpm.runtime.console import open_console
from iddpm.runtime.processes import ALONE
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.real_statistics import by_parts, nearest_items
from iddpm.tasks.samples import draw_samples

SAMPLER = "dpmpp_2m_sde"
"""Stated, so that records stay comparable when the automatic choice changes."""
SHARES = ("precision", "recall", "coverage")


def measure_run(
    directory: Path, data: DataSet, judge: Judge, seed: int, lengths: Sequence[float] = ()
) -> dict[str, Any]:
    """Measure a trained row; every number with its standard error.

    Args:
        directory: the run.
        data: its data set.
        judge: of the data set.
        seed: of the samples and of the bound.
        lengths: of averages, of which the one whose own samples are best is measured.
    """
    length = _best_length(directory, data, judge, seed, lengths) if lengths else None
    run = Run(directory, ema_length=length)
    found, copied = _of_samples(run, data, judge, data.samples, seed)
    bound = likelihood(
        run,
        samples_per_item=data.bound_looks,
        max_items=data.bound_items,
        seed=seed,
        precision="auto",
        console=open_console(),
    )
    shares = {name: float(found.values[name]) for name in SHARES}
    counts = {"precision": found.count, "recall": found.real, "coverage": found.real}
    return {
        "samples": found.count,
        "ema_length": length,
        "bound": {"unit": bound.unit, **_estimate(*bound.total)},
        "frechet": _estimate(*found.frechet),
        "kernel": _estimate(*found.kernel),
        **{name: _share(share, counts[name]) for name, share in shares.items()},
        **({} if copied is None else {"copies": _share(copied, found.count)}),
    }


def _of_samples(
    run: Run, data: DataSet, judge: Judge, count: int, seed: int
) -> tuple[Measures, float | None]:
    """Draw samples; return their measures and the share of copies among them."""
    split, console = run.open_split(), open_console()
    x = draw_samples(run, count, _how(data), split, seed, None, console).x
    features = by_parts(judge.extractor, x, ALONE)
    found = measure(features, judge.reference, min(len(x), PAIRS), whiten=True)
    (nearest,) = nearest_items([x], split.source, split.train, console, ALONE)
    copied = memorization(nearest, judge.nearest)
    return found, None if copied is None else copied.copies


def _best_length(
    directory: Path, data: DataSet, judge: Judge, seed: int, lengths: Sequence[float]
) -> float:
    """Return the length of the average whose samples are nearest, by half as many of their own."""
    distances: dict[float, float] = {}
    refused = ""
    for length in lengths:
        try:
            run = Run(directory, ema_length=length)
            split, count, console = run.open_split(), data.samples // 2, open_console()
            x = draw_samples(run, count, _how(data), split, seed + 1000, None, console).x
        except ValueError as error:  # such as too few snapshots for a short one
            refused = str(error)
            continue
        features = by_parts(judge.extractor, x, ALONE)
        found = measure(features, judge.reference, count, whiten=True)
        distances[length] = found.frechet.value
    if not distances:
        raise ValueError(refused)
    return min(distances, key=lambda length: distances[length])


def _how(data: DataSet) -> dict[str, Any]:
    """Return how samples are drawn."""
    return {**FAST, "sampler": SAMPLER, "steps": data.evaluations}


def _estimate(value: float, error: float) -> dict[str, float | None]:
    return {"value": value, "error": None if math.isnan(error) else error}


def _share(share: float, count: int) -> dict[str, float | None]:
    return _estimate(share, math.sqrt(share * (1 - share) / count))
