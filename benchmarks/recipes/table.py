"""The page of the table, benchmarks/recipes.md, made of the records alone."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.recipes.comparison import Comparison, Line, Value, compare, read_records
from benchmarks.recipes.judges import describe
from benchmarks.recipes.rows import HERE, read_row, row_names
from benchmarks.recipes.trials import Places, read_record
from benchmarks.runs.common import table
from iddpm.runtime.atomic_files import write_text

PAGE = HERE.parent / "recipes.md"
INTRODUCTION = """# Recipes

Settings compared on equal wall-clock budgets, from scratch, with a base for each data set
(`benchmarks/recipes/bases`). Each row changes what it says (`benchmarks/recipes/rows`).
`python -m benchmarks.recipes table` makes this page of the records in `benchmarks/recipes/records`;
`make recipes STAGE=screen` makes records
([choosing.md](../docs/choosing.md#measuring-recipes-again)).

**How to read the tables.** The bound is that of held-out items; less is better. The Frechet
distance, precision, recall and coverage compare samples with training items under the whitened
features of the judge that is named above each table. In brackets is the difference to the base in
standard errors of the difference; above 0 is better. With several seeds for some row, the standard
error is the spread over seeds, pooled over the rows that have several, and without any that of the
measurement, which leaves out what another seed would change. Copies are samples nearer to one
training item than 95 % of the held-out items are ([evaluation.md](../docs/evaluation.md)). Rows are
in the order of the mean of their places by bound, Frechet distance and coverage.
"""
HEAD = ["place", "row", "bound", "Frechet", "precision", "recall", "coverage", "copies",
        "seeds", "steps", "minutes"]  # fmt: skip
SHARES = ("precision", "recall", "coverage")


def write_table(places: Places, page: Path = PAGE) -> Path:
    """Write the page and return its path."""
    records = read_records(places.records)
    parts = [INTRODUCTION]
    for (minutes, data), found in compare(records).items():
        parts.append(f"## {data}, {minutes:g} minutes\n")
        parts.append(_section(found, places, data))
    if not records:
        parts.append("No record has been made yet.\n")
    parts.append("## What the rows try\n")
    parts.append(table([["row", "tries", "published"], *_rows(records)]))
    return write_text(page, "\n".join(parts))


def _section(found: Comparison, places: Places, data: str) -> str:
    parts = []
    judge = places.records / "judges" / f"{data}.json"
    if judge.is_file() and (facts := read_record(judge))["hash"] == found.judge:
        held_out = facts["held_out"]["frechet_distance"]["value"]
        parts.append(
            f"Judge: {describe(facts)}. Frechet distance of the held-out items: {held_out:.3g}.\n"
        )
    machines = "; ".join(found.machines)
    mixed = ", **of which times differ**" if len(found.machines) > 1 else ""
    errors = "the spread over seeds" if found.by_seeds else "the measurement alone"
    said = f"{machines}{mixed}. Bound in {found.unit}. Standard errors from {errors}."
    if found.left_out:
        said += f" {found.left_out} records of another judge or of older settings are left out."
    parts += [said + "\n", table([HEAD, *map(_cells, found.lines)])]
    if found.failures:
        parts.append("Failed:\n")
        parts.append("\n".join(f"- {row}: {why}" for row, why in sorted(found.failures.items())))
        parts.append("")
    return "\n".join(parts)


def _cells(line: Line) -> list[str]:
    return [
        f"{line.place:.1f}",
        line.row,
        *(_cell(line.values.get(name), 0.001) for name in ("bound", "frechet")),
        *(_cell(line.values.get(name), 0.01) for name in SHARES),
        _cell(line.values.get("copies"), 0.001, percent=True),
        f"{line.seeds}",
        f"{line.steps:,.0f}",
        f"{line.minutes:.2f}",
    ]


def _cell(value: Value | None, least: float, *, percent: bool = False) -> str:
    """Return a value, its error and its difference to the base."""
    if value is None:
        return ""
    scale, unit = (100, " %") if percent else (1, "")
    mean, error = scale * value.mean, None if value.error is None else scale * value.error
    digits = _digits(scale * least if not error else max(error, scale * least))
    text = f"{mean:.{digits}f}"
    text += "" if error is None else f" +- {error:.{digits}f}"
    return text + unit + ("" if value.better is None else f" ({value.better:+.1f})")


def _digits(error: float) -> int:
    """Return as many decimals as show two digits of an error."""
    return max(0, 1 - math.floor(math.log10(error)))


def _rows(records: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return what each row tries, also those whose file is gone since their setting lost."""
    known = {name: read_row(name) for name in row_names()}
    tried = {record["row"]: [record["tries"], record["published"]] for record in records}
    tried |= {name: [row.tries, row.published] for name, row in known.items()}
    return [[name, *(text.replace("|", "/") for text in tried[name])] for name in sorted(tried)]
