"""The cells of a text table: numbers, and the words among them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.text_tables import TextTable, number


@dataclass
class Grid:
    """Numbers [rows, columns], NaN where a word stands, and words by column and row."""

    table: TextTable
    values: NDArray[np.float64]
    lines: list[int]
    words: dict[int, dict[int, str]] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self.table.path

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


def _numbers(table: TextTable, cells: Sequence[str]) -> list[float | None]:
    return [number(cell, table.comma) for cell in cells]
