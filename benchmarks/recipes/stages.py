"""The stages: which rows are trained on which data for how long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.recipes.comparison import compare, read_records
from benchmarks.recipes.data_sets import data_sets
from benchmarks.recipes.rows import BASE, read_row, row_names
from benchmarks.recipes.trials import Places, Trial, perform


@dataclass(frozen=True)
class Stage:
    """How a stage trains unless the command line says otherwise.

    Attributes:
        minutes: of each training.
        seeds: of each row.
        data: the data sets.
        chosen: how many rows come from the stage before, beside the base; None for all rows.
        before: minutes of that stage.
    """

    minutes: float
    seeds: tuple[int, ...]
    data: tuple[str, ...]
    chosen: int | None = None
    before: float | None = None


ALL = ("digits", "emoji", "signals", "mri", "emoji_rgba")
STAGES: Mapping[str, Stage] = {
    "screen": Stage(5, (0,), ("digits", "emoji")),
    "finalists": Stage(15, (0, 1, 2), ALL, chosen=4, before=5),
    "final": Stage(60, (0,), ALL, chosen=1, before=15),
}
BASE_SEEDS = (0, 1, 2)
"""The base has three in every stage: their spread is the error of rows that have one."""


def run_stage(
    stage: Stage, places: Places, rows: Sequence[str] | None = None, settings: Sequence[str] = ()
) -> int:
    """Train and measure everything of a stage that has no record; return how many trials failed.

    Args:
        stage: what.
        places: where.
        rows: names of rows; by default all, or the best of the stage before.
        settings: more assignments for all.
    """
    named = [read_row(name) for name in rows or _rows_of(stage, places)]
    known = data_sets()
    trials = [
        Trial(row, known[data], stage.minutes, seed, tuple(settings))
        for data in stage.data
        for row in named
        if not row.data or data in row.data
        for seed in (sorted({*stage.seeds, *BASE_SEEDS}) if row.name == BASE else stage.seeds)
    ]
    failed = 0
    for number, trial in enumerate(trials, 1):
        print(f"[{number}/{len(trials)}] ", end="")
        failed += "failed" in perform(trial, places)
    return failed


def _rows_of(stage: Stage, places: Places) -> list[str]:
    """Return the rows of a stage: all, or the base and the best of the stage before.

    Raises:
        ValueError: nothing was measured before.
    """
    if stage.chosen is None or stage.before is None:
        return row_names()
    best = finalists(places, stage.before, stage.chosen)
    if not best:
        raise ValueError(
            f"there are no records of {stage.before:g} minutes in {places.records} to choose rows "
            "by: run the stage before, or name rows with --rows"
        )
    return [BASE, *best]


def finalists(places: Places, minutes: float, count: int) -> list[str]:
    """Return the rows, not the base, with the best mean place over the data sets they are for."""
    places_of: dict[str, list[float]] = {}
    for (each, _), found in compare(read_records(places.records)).items():
        if each == minutes:
            for line in found.lines:
                places_of.setdefault(line.row, []).append(line.place / len(found.lines))
    places_of.pop(BASE, None)
    means = {row: sum(values) / len(values) for row, values in places_of.items()}
    return sorted(means, key=lambda row: means[row])[:count]
