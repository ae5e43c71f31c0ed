"""Records of trials compared: means over seeds, errors, differences to the base, and places."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.recipes.rows import BASE
from benchmarks.recipes.trials import read_record

BETTER = {"bound": -1, "frechet": -1, "precision": 1, "recall": 1, "coverage": 1, "copies": -1}
"""The measures of the table, and which way is better."""
RANKED = ("bound", "frechet", "coverage")
"""The measures whose places are averaged into that of a row."""


@dataclass(frozen=True)
class Value:
    """The mean of a measure over the seeds of a row.

    Attributes:
        mean: in the measure's unit.
        error: its standard error, from the spread over seeds where that is known.
        better: difference to the base in standard errors of it, above 0 where better; None for the
            base and without one.
    """

    mean: float
    error: float | None
    better: float | None = None


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Attributes:
        row: its name.
        tries, published: what it tries, and the effect that is published.
        values: by measure.
        seeds: how many.
        steps: mean number of steps.
        minutes: mean minutes of training.
        place: mean of its places among all rows by the ranked measures; 1 is the best.
    """

    row: str
    tries: str
    published: str
    values: Mapping[str, Value]
    seeds: int
    steps: float
    minutes: float
    place: float


@dataclass(frozen=True)
class Comparison:
    """All rows of a data set and a budget, the best first.

    Attributes:
        lines: those that were measured.
        failures: the sentence of each row that could not be, by its name.
        unit: of the bound.
        by_seeds: whether errors are from the spread over seeds.
        machines: processor and threads of the records.
        judge: hash of the judge.
        left_out: records of another judge or of settings that have changed since.
    """

    lines: list[Line]
    failures: dict[str, str]
    unit: str
    by_seeds: bool
    machines: list[str]
    judge: str
    left_out: int


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return all records, in the order of their paths."""
    return [read_record(path) for path in sorted(folder.glob("*m/*/*.json"))]


def compare(records: Sequence[dict[str, Any]]) -> dict[tuple[float, str], Comparison]:
    """Return comparisons by minutes and data set."""
    groups: dict[tuple[float, str], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault((record["minutes"], record["data"]), []).append(record)
    return {key: _compared(groups[key]) for key in sorted(groups)}


def _compared(records: list[dict[str, Any]]) -> Comparison:
    judge = max(records, key=lambda record: record["when"])["judge"]
    digests: dict[str, str] = {}
    for record in sorted(records, key=lambda record: record["when"]):
        digests[record["row"]] = record["digest"]
    valid = [r for r in records if r["judge"] == judge and r["digest"] == digests[r["row"]]]
    measured: dict[str, list[dict[str, Any]]] = {}
    for record in valid:
        if "failed" not in record:
            measured.setdefault(record["row"], []).append(record)
    spreads = {name: _spread(measured, name) for name in BETTER}
    values = {
        row: {name: _value(of_row, name, spreads[name]) for name in _common(of_row)}
        for row, of_row in measured.items()
    }
    if BASE in values:
        values = {row: _beside(of_row, values[BASE]) for row, of_row in values.items()}
    places = _places(values)
    lines = [_line(row, measured[row], values[row], places[row]) for row in measured]
    return Comparison(
        lines=sorted(lines, key=lambda line: (line.place, line.row)),
        failures={r["row"]: r["failed"] for r in valid if "failed" in r},
        unit=next((r["measures"]["bound"]["unit"] for r in valid if "failed" not in r), ""),
        by_seeds=spreads["frechet"] is not None,
        machines=sorted({f"{r['processor']}, {r['threads']} threads" for r in valid}),
        judge=judge,
        left_out=len(records) - len(valid),
    )


def _line(row: str, records: list[dict[str, Any]], values: Any, place: float) -> Line:
    return Line(
        row,
        records[-1]["tries"],
        records[-1]["published"],
        values,
        len(records),
        statistics.mean(record["steps"] for record in records),
        statistics.mean(record["trained_minutes"] for record in records),
        place,
    )


def _common(records: list[dict[str, Any]]) -> list[str]:
    """Return the measures that all records have: copies need enough held-out items."""
    return [name for name in BETTER if all(name in record["measures"] for record in records)]


def _numbers(records: list[dict[str, Any]], name: str) -> list[float]:
    return [record["measures"][name]["value"] for record in records if name in record["measures"]]


def _spread(measured: Mapping[str, list[dict[str, Any]]], name: str) -> float | None:
    """Return the standard deviation over seeds, pooled over the rows that have several."""
    total = freedom = 0.0
    for records in measured.values():
        numbers = _numbers(records, name)
        if len(numbers) > 1:
            total += (len(numbers) - 1) * statistics.variance(numbers)
            freedom += len(numbers) - 1
    return math.sqrt(total / freedom) if freedom else None


def _value(records: list[dict[str, Any]], name: str, spread: float | None) -> Value:
    numbers = _numbers(records, name)
    mean = statistics.mean(numbers)
    if spread is not None:
        return Value(mean, spread / math.sqrt(len(numbers)))
    errors = [record["measures"][name]["error"] for record in records]
    if any(error is None for error in errors):
        return Value(mean, None)
    return Value(mean, math.sqrt(sum(error**2 for error in errors)) / len(errors))


def _beside(values: Mapping[str, Value], base: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values with their differences to those of the base."""
    found = {}
    for name, value in values.items():
        better = None
        other = base.get(name)
        if other is not None and other is not value and value.error and other.error:
            error = math.hypot(value.error, other.error)
            better = BETTER[name] * (value.mean - other.mean) / error
        found[name] = Value(value.mean, value.error, better)
    return found


def _places(values: Mapping[str, Mapping[str, Value]]) -> dict[str, float]:
    """Return the mean place of each row by the ranked measures; equal values share a place."""
    total = dict.fromkeys(values, 0.0)
    for name in RANKED:
        signed = {row: BETTER[name] * of_row[name].mean for row, of_row in values.items()}
        for row, mine in signed.items():
            before = sum(other > mine for other in signed.values())
            ties = sum(other == mine for other in signed.values())
            total[row] += 1 + before + (ties - 1) / 2
    return {row: places / len(RANKED) for row, places in total.items()}
