"""Conditions other than the class: read from a table and scaled for a network."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.by_name import find_table, normal_name, rows_of
from iddpm.data.sources.hdf5 import HDF5, read_members
from iddpm.data.sources.npy import read_npz
from iddpm.data.sources.source import Source
from iddpm.data.sources.text_tables import open_table, points_for_commas

Columns = dict[str, list[str]]
"""By the name of a condition, a cell for each item: text as it is written, empty for unknown."""

GROUP = "conditions/"
"""What may stand before the name of a member of an array file; that of samples has it."""


@dataclass(frozen=True)
class Condition:
    """A condition: how its cells become the network's input.

    Attributes:
        name: of the condition.
        names: of the classes; None for a number.
        low, high: the numbers that become -1 and 1.
        period: of a periodic number, which is encoded in turns; None for others.
    """

    name: str
    names: tuple[str, ...] | None = None
    low: float = -1.0
    high: float = 1.0
    period: float | None = None

    def encode(self, cell: str) -> float:
        """Return the network's input for a cell: NaN for an empty cell or ``nan``.

        Raises:
            ValueError: an unknown class, or text where a number belongs.
        """
        if is_unknown(cell):
            return math.nan
        if self.names is not None:
            if cell in self.names:
                return float(self.names.index(cell))
            words = _shown(self.names, 12)
            raise ValueError(f"{self.name}={cell} is none of its {len(self.names)} words: {words}")
        value = as_number(cell)
        if value is None:
            raise ValueError(
                f"{self.name}={cell} is not a number, and the model was trained on numbers"
            )
        if self.period is not None:
            return value % self.period / self.period
        return (value - self.low) * (2 / (self.high - self.low)) - 1

    def decode(self, encoded: float) -> str:
        """Return the cell for a network input; empty for NaN."""
        if math.isnan(encoded):
            return ""
        if self.names is not None:
            return self.names[int(encoded)]
        largest = self.period or max(abs(self.low), abs(self.high))
        value = (
            encoded * self.period
            if self.period is not None
            else (encoded + 1) * ((self.high - self.low) / 2) + self.low
        )
        return f"{round(value, 9 - math.floor(math.log10(largest))) + 0.0:.10g}"

    def __str__(self) -> str:
        if self.names is not None:
            return f"{self.name} ({_shown(self.names, 6)})"
        if self.period is not None:
            return f"{self.name} (period {self.period:g})"
        return f"{self.name} ({self.low:.6g} to {self.high:.6g})"


def _shown(names: Sequence[str], most: int) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def encode(
    conditions: Sequence[Condition], columns: Columns, source: Source, where: object
) -> NDArray[np.float32]:
    """Return the conditions of each item, [N, K].

    Raises:
        ValueError: a cell with an unknown value; the message names the item.
    """
    encoded = np.empty((len(source), len(conditions)))
    for k, condition in enumerate(conditions):
        known: dict[str, float] = {}
        for index, cell in enumerate(columns[condition.name]):
            try:
                encoded[index, k] = known[cell] if cell in known else condition.encode(cell)
            except ValueError as error:
                raise ValueError(f"{where}, {source.recording(index)}: {error}") from None
            known[cell] = float(encoded[index, k])
    return encoded.astype(np.float32)


def read_columns(
    where: str | Sequence[str], wanted: Sequence[str] | None, data: Path, source: Source
) -> Columns:
    """Read the conditions of a source's items.

    Args:
        where: a CSV or TSV table, relative to the working directory or to the data, whose first
            column names the items and whose others are conditions; or members of the array file
            ``data``, one row an item.
        wanted: names of the columns; None for all.
        data: the path of the items.
        source: the items.

    Raises:
        FileNotFoundError: no such table.
        ValueError: no such column or member, an item without a row, or a file that is no table.
    """
    if not isinstance(where, str):
        return _from_members(where, wanted, data, source)
    table = find_table(where, data if data.is_dir() else data.parent, "table of conditions")
    names, rows = _read_table(table)
    for name in wanted or ():
        if name not in names:
            raise ValueError(f"{table} has no column {name}; it has {', '.join(names)}")
    keys = [source.recording(index) for index in range(len(source))]
    found = rows_of(rows, keys, table, "row", "," * (len(names) - 1))
    chosen = names if wanted is None else wanted
    places = {name: names.index(name) for name in chosen}
    return {name: [row[place] for row in found] for name, place in places.items()}


def as_number(cell: str) -> float | None:
    """Return the finite number that a cell holds, if it does."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def is_unknown(cell: str) -> bool:
    """Return whether a cell means unknown."""
    return cell == "" or cell.lower() == "nan"


def _read_table(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the conditions, and their cells by the name of the item."""
    table = open_table(path, named=True)
    header = table.header or []
    names = header[1:]
    if not names or "" in names or len(set(names)) < len(names):
        raise ValueError(
            f"{path} starts with {', '.join(header)[:60]!r}; its first line must name the "
            "columns, with the items first, such as file,age,sex"
        )
    lines = []
    for line, cells in table:
        if not any(cells):
            continue
        if not cells[0]:
            raise ValueError(
                f"{path}, line {line}: needs a name and {len(names)} cells; leave cells of "
                "unknown values empty"
            )
        lines.append(cells)
    for column, name in enumerate(names, 1):
        pointed = points_for_commas([cells[column] for cells in lines])
        if pointed is not None:
            warnings.warn(f"{path.name}: {name} has decimal commas, read as points", stacklevel=4)
            for cells, cell in zip(lines, pointed, strict=True):
                cells[column] = cell
    rows: dict[str, list[str]] = {}
    for cells in lines:
        name = normal_name(cells[0])
        if rows.setdefault(name, cells[1:]) != cells[1:]:
            raise ValueError(f"{path} has two different rows for {name}")
    return names, rows


def _from_members(
    members: Sequence[str], wanted: Sequence[str] | None, data: Path, source: Source
) -> Columns:
    suffix = data.suffix.lower()
    if not data.is_file() or suffix not in (".npz", *HDF5):
        raise ValueError(
            f"data.conditions={list(members)} names members of a .npz or .h5 file, and {data} "
            "is not one: give the path of a table"
        )
    for name in wanted or ():
        if name not in members:
            raise ValueError(f"data.conditions={list(members)} does not name {name}")
    arrays: Mapping[str, Any] = read_npz(data) if suffix == ".npz" else read_members(data)
    rows = [int(source.recording(index)) for index in range(len(source))]
    columns = {}
    for name in members if wanted is None else wanted:
        array = arrays.get(name, arrays.get(GROUP + name))
        if array is None:
            raise ValueError(f"{data} has no {name}; it has {', '.join(arrays)}")
        if array.shape != (max(rows) + 1,) or array.dtype.kind not in "biufU":
            raise ValueError(
                f"{name} in {data} is {array.dtype} of shape {array.shape}; conditions are "
                f"numbers or words, one for each of {max(rows) + 1} items"
            )
        cells = ["" if is_unknown(str(value)) else str(value) for value in array.tolist()]
        columns[name] = [cells[row] for row in rows]
    return columns
