"""The measurements of a run directory: likelihoods, evaluation reports, samplers compared."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from iddpm.ui.actions.compare_actions import COMPARED
from iddpm.ui.run_index import entries_of

LARGEST = 5_000_000
"""Bytes of a report that is read."""
TUNED = "tuned.json"
TRIED = ("distance", "recall", "coverage", "spread")
"""What is shown of each sampler before its score."""
VERDICTS = ("copy", "typical", "new", "unknown")
"""Of the nearest training items of a sample."""
MEASURES = ("frechet_distance", "kernel_distance", "precision", "recall", "density", "coverage")
"""Those of an evaluation that are shown, where it has them."""


class Measurement(NamedTuple):
    """One result.

    Attributes:
        kind: ``likelihood``, ``evaluation``, or ``comparison`` of data that was there.
        measure: one of :data:`MEASURES`; nothing of a likelihood.
        what: how it was measured, in the words of the report.
        other: the folder of a report on other data; nothing of the run's own.
        value, error: the number, and one standard error or None.
        unit: such as ``bits/dim``.
        path: the report in the run directory.
        picture: a picture of it there, or None.
    """

    kind: str
    measure: str
    what: str
    other: str
    value: float
    error: float | None
    unit: str
    path: str
    picture: str | None


class Tried(NamedTuple):
    """A sampler and a spacing that ``iddpm tune`` has tried.

    Attributes:
        evaluations: of the network.
        method: the sampler and the spacing, in words.
        values: distance, recall, coverage, spread and score.
        error: of the score.
        chosen: whether it is used from then on.
    """

    evaluations: int
    method: str
    values: tuple[float, ...]
    error: float | None
    chosen: bool


def find_tried(run: Path) -> list[Tried]:
    """Return what ``RUN/tuned.json`` says, the best of each number of evaluations first."""
    report, found = _read(run / TUNED), []
    scores, won = report.get("scores"), report.get("won")
    for count, methods in scores.items() if isinstance(scores, dict) else ():
        for method, measured in methods.items() if isinstance(methods, dict) else ():
            parts = measured if isinstance(measured, dict) else {}
            whole = parts.get("score")
            value = whole if isinstance(whole, dict) else {}
            numbers = [_number(parts.get(name)) for name in TRIED] + [_number(value.get("value"))]
            if not count.isdecimal() or len(count) > 9 or None in numbers:
                continue
            chosen = isinstance(won, dict) and won.get(count) == method.split(", ")
            values = tuple(number for number in numbers if number is not None)
            found.append(Tried(int(count), method, values, _number(value.get("error")), chosen))
    return sorted(found, key=lambda tried: (tried.evaluations, tried.values[-1]))


def find_measurements(run: Path) -> list[Measurement]:
    """Return what has been measured of a run; damaged reports are left out."""
    found: list[Measurement] = []
    for entry in entries_of(run / "likelihood"):
        if entry.name.endswith(".json"):
            found += _likelihood(Path(entry.path))
    found += _evaluation(run, "evaluation")
    for entry in entries_of(run / COMPARED):
        found += _evaluation(run, f"{COMPARED}/{entry.name}")
    return found


class Near(NamedTuple):
    """The training items nearest to a sample: their names and distances, and what follows."""

    verdict: str
    neighbors: list[tuple[str, float]]


def read_nearest(path: Path) -> Near | None:
    """Return what ``nearest.json`` says; None where it is damaged."""
    report, found = _read(path), []
    neighbors = report.get("neighbors")
    for each in neighbors if isinstance(neighbors, list) else ():
        distance = _number(each.get("distance")) if isinstance(each, dict) else None
        if distance is not None:
            found.append((str(each.get("key")), distance))
    verdict = report.get("verdict")
    return Near(str(verdict), found) if verdict in VERDICTS else None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) else None


def _likelihood(path: Path) -> list[Measurement]:
    report = _read(path)
    total = report.get("total")
    value = _number(total.get("mean")) if isinstance(total, dict) else None
    if value is None or not isinstance(total, dict):
        return []
    picture = path.with_suffix(".png")
    return [
        Measurement(
            "likelihood",
            "",
            path.stem,
            "",
            value,
            _number(total.get("error")),
            str(report.get("unit", "")),
            f"likelihood/{path.name}",
            f"likelihood/{picture.name}" if picture.is_file() else None,
        )
    ]


def _evaluation(run: Path, folder: str) -> list[Measurement]:
    """Return the measures of a report: of the run's samples, or of generated data elsewhere."""
    report = _read(run / folder / "report.json")
    samples = report.get("samples")
    if not isinstance(samples, dict):
        return []
    shown = f"{folder}/neighbours.png" if (run / folder / "neighbours.png").is_file() else None
    found = []
    for name in MEASURES:
        measured = samples.get(name)
        parts = measured if isinstance(measured, dict) else {"value": measured}
        value = _number(parts.get("value"))
        if value is not None:
            said = str(report.get("frechet_name", "")) if name == MEASURES[0] else ""
            what = said.removeprefix("Frechet distance").strip()
            error = _number(parts.get("error"))
            kind = "evaluation" if report.get("generated") is None else "comparison"
            other = "" if folder == "evaluation" else Path(folder).name
            path = f"{folder}/report.md"
            found.append(Measurement(kind, name, what, other, value, error, "", path, shown))
    return found
