"""Time series as text: one a row, the class in the first or last column."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.label_tables import class_table
from iddpm.data.values import Wanted

TEXTS = (".csv", ".tsv", ".txt")


class Series(NamedTuple):
    """What a text file holds: values [N, L], and classes [N] with their names."""

    values: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]


def open_series(path: Path, *, labels: str = "auto", value_range: Wanted = None) -> ArraySource:
    """Open a text file as :func:`read_series` reads it, for training.

    Numbers that are all whole are integers; ``value_range`` as in `iddpm.data.values.find_values`.
    """
    table, classes, names = read_series(path, labels)
    values: NDArray[np.float64] | NDArray[np.int32] = table
    if _integral(table).all() and np.abs(table).max(initial=0) < 2**31:
        values = table.astype(np.int32)
    source = ArraySource(
        values, name=path.name, layout="NL", labels=classes, class_names=names, path=path,
        value_range=value_range,
    )  # fmt: skip
    source.form = Form("table", source.form.values)
    return source


def read_series(path: Path, labels: str = "auto") -> Series:
    """Read a text file of equally long rows, parted by commas, semicolons, tabs or blanks.

    Args:
        path: the file; a first line that is no numbers is a header.
        labels: ``"first"`` or ``"last"``, the column of the classes; ``"none"``; or ``"auto"``, the
            one of the two that holds integers where the rest does not.

    Raises:
        ValueError: rows that differ in length, text where numbers belong, or unclear labels.
    """
    table = _read(path)
    if labels not in ("auto", "none", "first", "last"):
        raise ValueError(
            f"labels={labels!r} does not go with {path}: use first, last, none or auto"
        )
    column = {"first": 0, "last": -1, "none": None}.get(labels)
    if labels == "auto":
        column = _class_column(path, table)
    classes: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    if column is not None:
        classes, names = class_table([f"{value:g}" for value in table[:, column]])
        table = table[:, 1:] if column == 0 else table[:, :-1]
    if table.shape[1] == 0:
        raise ValueError(f"{path} holds nothing but labels")
    return Series(table, classes, names)


def _read(path: Path) -> NDArray[np.float64]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            first = file.readline(1 << 24)
        delimiter = next((mark for mark in ",;\t" if mark in first), None)
        cells = first.strip().split(delimiter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an empty file, which is refused below
            table = np.loadtxt(
                path,
                delimiter=delimiter,
                skiprows=0 if all(map(_is_number, cells)) else 1,
                ndmin=2,
                encoding="utf-8-sig",
            )
    except (ValueError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"{path} is not a table of numbers with rows of one length: {reason}"
        ) from None
    if table.size == 0:
        raise ValueError(f"{path} holds no rows of numbers")
    return table


def _class_column(path: Path, table: NDArray[np.float64]) -> int | None:
    whole = np.asarray(_integral(table).all(axis=0))
    if whole.all():
        raise ValueError(
            f"{path} holds integers alone, so that labels cannot be told from data: say "
            "data.labels=first, last or none"
        )
    ends = [end for end in (0, -1) if whole[end]]
    if len(ends) == 2:
        raise ValueError(
            f"{path} has integers in its first and in its last column: say data.labels=first, last "
            "or none"
        )
    return ends[0] if ends else None


def _integral(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(table) & (table == np.trunc(table)))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
