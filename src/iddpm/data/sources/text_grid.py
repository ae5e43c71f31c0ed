"""The cells of a text table: numbers, and the words among them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.text_tables import TextTable, is_missing, number


@dataclass
class Grid:
    """Numbers [rows, columns], NaN where a word stands, and words by column and row.

    Cells that are missing are words, unless `allow_missing` takes them out of these.
    """

    table: TextTable
    values: NDArray[np.float64]
    lines: list[int]
    words: dict[int, dict[int, str]] = field(default_factory=dict)
    missing: dict[int, list[int]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

    def allow_missing(self) -> None:
        """Take missing numbers for NaN and for no fault, column by column."""
        for column, cells in list(self.words.items()):
            rows = [row for row, cell in cells.items() if is_missing(cell)]
            if rows and len(rows) < len(self.lines):
                self.missing[column] = rows
                self.words[column] = {r: c for r, c in cells.items() if not is_missing(c)}
                if not self.words[column]:
                    del self.words[column]

    def title(self, column: int) -> str:
        """Return a column's number from 1 on, with its name."""
        column %= self.values.shape[1]
        return f"column {column + 1}" + (f" ({self.name(column)})" if self.name(column) else "")

    def name(self, column: int) -> str:
        """Return a column's name, empty where there is none."""
        return self.table.header[column] if self.table.header is not None else ""


def read_grid(table: TextTable) -> Grid:
    """Return the cells of a table; ValueError where it has no rows."""
    rows: list[NDArray[np.float64]] = []
    grid = Grid(table, np.empty((0, 0)), [])
    for line, cells in table:
        try:
            if "_" in "".join(cells):
                raise ValueError("Python takes 1_0 for 10")
            row = np.fromiter(map(float, cells), np.float64, len(cells))
        except ValueError:
            row = np.array([np.nan if v is None else v for v in _numbers(table, cells)])
        for column in np.flatnonzero(~np.isfinite(row)).tolist():
            row[column] = np.nan
            grid.words.setdefault(column, {})[len(rows)] = cells[column]
        rows.append(row)
        grid.lines.append(line)
    if not rows:
        raise ValueError(f"{table.path} holds no rows of numbers")
    grid.values = np.stack(rows)
    return grid


def refuse_words(grid: Grid, columns: Sequence[int]) -> None:
    """Refuse cells that are no numbers by their place."""
    places = [(row, k) for k in columns for row in grid.words.get(k, ())]
    if not places:
        return
    row, column = min(places)
    cell = grid.words[column][row]
    what = "is empty" if not cell else f"holds {cell[:40]!r}, which is not a finite number"
    if cell and is_missing(cell):
        what = f"holds {'NaN' if cell.lower() == 'nan' else cell}, a missing number"
    hint = "fill it in, or remove the row"
    if row == 0 and grid.table.header is None:
        hint += "; a header is a first row without any number"
    more = f", and so do {len(places) - 1} more cells" if len(places) > 1 else ""
    raise ValueError(
        f"{grid.path} is not a table of numbers: line {grid.lines[row]}, {grid.title(column)} "
        f"{what}{more}; {hint}"
    )


def _numbers(table: TextTable, cells: Sequence[str]) -> list[float | None]:
    return [number(cell, table.comma) for cell in cells]
