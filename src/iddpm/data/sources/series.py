"""Time series as text: one a row, or one a column."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.label_tables import LABEL_NAMES, class_table
from iddpm.data.sources.opened_files import Recording, held
from iddpm.data.sources.text_grid import Grid, read_grid, refuse_words
from iddpm.data.sources.text_tables import TABLES, is_missing, open_table
from iddpm.data.values import Filled, Wanted

TEXTS = TABLES
_TIMES = re.compile(
    r"(t|time|times|timestamp|seconds?|secs?|s|ms|milliseconds?|date|datetime|zeit|temps)"
    r"(\s*[\[(].*[\])]|_(s|ms|us|ns|sec|seconds))?",
    re.IGNORECASE,
)
_TALL = 10
"""Times as many rows as columns from which columns may have been meant."""


class Series(NamedTuple):
    """What a text file holds: values [N, L], and classes [N] with their names.

    ``taken`` says what was taken for the header, time, labels and values.
    """

    values: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    taken: str = ""


def open_series(
    path: Path,
    *,
    labels: str = "auto",
    layout: str | None = None,
    value_range: Wanted = None,
    channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> ArraySource:
    """Open a text file as :func:`read_series` reads it, for training.

    Numbers that are all whole are integers; ``value_range`` as in `iddpm.data.values.find_values`.
    """
    series = read_series(path, labels, layout, missing=isinstance(value_range, Filled))
    values = _numbers(series.values)
    source = ArraySource(
        values, name=path.name, layout="NL", labels=series.labels, class_names=series.class_names,
        path=path, value_range=value_range, channels=channels, image_size=image_size,
    )  # fmt: skip
    source.form = Form("table", source.form.values)
    source.taken = series.taken
    return source


def open_item(path: Path, layout: str | None = None, missing: bool = False) -> Recording:
    """Open a text file that is one item of a folder.

    Args:
        path: the file.
        layout: ``"columns"``: each column is a channel, but for a first one of times; ``"rows"``:
            each row is one; ``"NHW"``: the table is a picture of one channel. By default columns,
            but of a single row that row.
        missing: whether missing numbers are NaN.

    Raises:
        ValueError: as `read_series` does.
    """
    if layout not in (None, "columns", "rows", "NHW"):
        raise ValueError(
            f"layout={layout!r} does not go with a folder of text tables: use columns, rows or NHW"
        )
    grid = _grid(path, missing)
    if layout == "columns" or (layout is None and len(grid.lines) > 1):
        values = _down(grid, "none").values
        if layout is None and len(values) > values.shape[1]:
            warnings.warn(
                f"{path.name}: each column is a channel, here {len(values)} of "
                f"{values.shape[1]} values; if rows are channels, set -s data.layout=rows, and if "
                "the table is a picture data.layout=NHW, otherwise data.layout=columns",
                stacklevel=3,
            )
        return held(_numbers(values))
    refuse_words(grid, range(grid.values.shape[1]))
    return held(_numbers(grid.values if layout != "NHW" else grid.values[None]))


def read_series(
    path: Path, labels: str = "auto", layout: str | None = None, *, missing: bool = False
) -> Series:
    """Read a text file of equally long rows, parted by commas, semicolons, tabs or blanks.

    Args:
        path: the file; a first row without any number is a header.
        labels: ``"first"``, ``"last"`` or a name in the header: the column of the classes;
            ``"none"``; or ``"auto"``: the column whose name says so, or the one of the first and
            the last that holds words, or integers where the rest does not.
        layout: ``"rows"`` (the default): a row is an item; ``"columns"``: a column is one, but for
            a first column of times.
        missing: whether missing numbers are NaN and no error.

    Raises:
        ValueError: rows that differ in length, text where numbers belong, or unclear labels.
    """
    if layout not in (None, "rows", "columns", "NL"):
        raise ValueError(
            f"layout={layout!r} does not go with the text table {path}: use rows or columns"
        )
    grid = _grid(path, missing)
    if layout == "columns":
        return _down(grid, labels)
    column = _label_column(grid, labels)
    keep = [k for k in range(grid.values.shape[1]) if k != column]
    if labels == "none":
        left_out = [k for k in (0, grid.values.shape[1] - 1) if _all_words(grid, k)]
        for k in left_out:
            warnings.warn(
                f"{path.name}: {grid.title(k)} holds words and is skipped (data.labels=none)",
                stacklevel=3,
            )
        keep = [k for k in keep if k not in left_out]
    refuse_words(grid, keep)
    if not keep:
        raise ValueError(f"{path} holds only labels")
    classes, names = (None, ()) if column is None else _classes(grid, column)
    if layout is None:
        _say_columns(grid, keep)
    _say_numbered(grid)
    taken = f"labels {'none' if column is None else grid.title(column)}, values {_span(keep)}"
    return Series(grid.values[:, keep], classes, names, f"{grid.table.taken()}, {taken}")


def _grid(path: Path, missing: bool) -> Grid:
    grid = read_grid(open_table(path))
    if missing:
        grid.allow_missing()
    return grid


def _down(grid: Grid, labels: str) -> Series:
    """Return the columns as items, but for times in the first."""
    path, count = grid.path, grid.values.shape[1]
    if labels not in ("auto", "none"):
        raise ValueError(
            f"labels={labels!r} does not go with layout=columns of {path}: use auto or none"
        )
    keep = list(range(count))
    words = _all_words(grid, 0) and len(set(grid.words[0].values())) == len(grid.lines)
    if count > 1 and (words or _is_time(grid)):
        keep = keep[1:]
    refuse_words(grid, keep)
    time = "none" if len(keep) == count else grid.title(0)
    if len(keep) < count and not _named_time(grid):
        why = "holds words" if words else "rises evenly"
        warnings.warn(
            f"{path.name}: {grid.title(0)} {why} and is read as time, not as a signal; if this "
            "is wrong, name the columns in a header",
            stacklevel=4,
        )
    names = ", ".join(grid.name(k) for k in keep[:6]) if grid.table.header is not None else ""
    taken = f"time {time}, labels none, values down {_span(keep)}" + (
        f" ({names})" if names else ""
    )
    values = np.ascontiguousarray(grid.values[:, keep].T)
    return Series(values, None, (), f"{grid.table.taken()}, {taken}")


def _named_time(grid: Grid) -> bool:
    return bool(_TIMES.fullmatch(grid.name(0)))


def _is_time(grid: Grid) -> bool:
    """Say whether the first column is time: by its name, or it has none and rises evenly."""
    times = grid.values[:, 0]
    if _named_time(grid):
        return True
    steps = np.diff(times)
    if grid.name(0) or len(steps) < 2 or not (steps > 0).all():
        return False
    return bool(np.ptp(steps) <= 0.02 * steps.mean())


def _all_words(grid: Grid, column: int) -> bool:
    cells = grid.words.get(column, {})
    return len(cells) == len(grid.lines) and not any(map(is_missing, cells.values()))


def _whole(grid: Grid, column: int) -> bool:
    return bool(_integral(grid.values[:, column]).all())


def _label_column(grid: Grid, labels: str) -> int | None:
    header, path = grid.table.header, grid.path
    last = grid.values.shape[1] - 1
    if labels == "none":
        return None
    if labels in ("first", "last"):
        return 0 if labels == "first" else last
    if labels != "auto":
        if header is not None and header.count(labels) == 1:
            return header.index(labels)
        names = f", or a name of its header: {', '.join(header[:8])}" if header is not None else ""
        raise ValueError(
            f"labels={labels!r} does not go with {path}: use first, last, none or auto{names}"
        )
    if header is not None:
        named = [k for k, name in enumerate(header) if name.lower() in LABEL_NAMES]
        if len(named) == 1 and (_all_words(grid, named[0]) or _whole(grid, named[0])):
            return named[0]
    return _guess_labels(grid, last)


def _guess_labels(grid: Grid, last: int) -> int | None:
    path = grid.path
    words = [end for end in dict.fromkeys((0, last)) if _all_words(grid, end)]
    if len(words) == 2:
        raise ValueError(
            f"{path} has words in its first and in its last column: set data.labels=first or "
            "last and remove the other"
        )
    if words:
        distinct = set(grid.words[words[0]].values())
        if len(distinct) > 2 and 2 * len(distinct) > len(grid.lines):
            raise ValueError(
                f"{path} has {len(distinct)} different words in {grid.title(words[0])} for "
                f"{len(grid.lines)} rows, which may be names or times: set "
                f"data.labels={('first' if words[0] == 0 else 'last')} if they are classes, or "
                "none to skip them"
            )
        return words[0]
    if grid.words:  # one cell that is no number is a fault of that cell, and named as such
        return None
    whole = np.asarray(_integral(grid.values).all(axis=0))
    if whole.all():
        raise ValueError(
            f"{path} holds only integers, so labels cannot be distinguished from data: set "
            "data.labels=first, last or none"
        )
    ends = [end for end in (0, last) if whole[end]]
    if len(ends) == 2:
        raise ValueError(
            f"{path} has integers in its first and in its last column: set data.labels=first, "
            "last or none"
        )
    if ends:
        _say_unlikely(grid, ends[0])
    return ends[0] if ends else None


def _say_unlikely(grid: Grid, column: int) -> None:
    """Warn of labels that say nothing: one class for all, or one for each."""
    cells = grid.values[:, column]
    distinct = len(np.unique(cells))
    what = None
    if distinct == 1 and len(cells) > 1:
        what = f"holds only the number {cells[0]:g}"
    elif distinct == len(cells) and len(cells) > 2:
        what = f"holds {len(cells)} different numbers for as many rows, like an index"
    if what is not None:
        end = "first" if column == 0 else "last"
        warnings.warn(
            f"{grid.path.name}: {grid.title(column)} {what}, and is read as labels; set "
            f"data.labels=none if it belongs to the data, or data.labels={end} if it does not",
            stacklevel=5,
        )


def _classes(grid: Grid, column: int) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    words, cells = grid.words.get(column, {}), grid.values[:, column]
    empty = next((row for row, word in words.items() if is_missing(word)), None)
    empty = grid.missing[column][0] if column in grid.missing else empty
    if empty is not None:
        raise ValueError(
            f"{grid.path}, line {grid.lines[empty]}: {grid.title(column)} has no label "
            f"({words.get(empty) or 'empty'}); fill it in or remove the row"
        )
    return class_table(
        [
            words.get(row) or (str(int(value)) if value == int(value) else f"{value:.12g}")
            for row, value in enumerate(map(float, np.nan_to_num(cells)))
        ]
    )


def _say_columns(grid: Grid, keep: Sequence[int]) -> None:
    """Warn where signals seem to run down the columns."""
    count = len(grid.lines)
    timed = count > 2 and _named_time(grid) and bool((np.diff(grid.values[:, 0]) > 0).all())
    if timed or (len(keep) < 4 and count >= _TALL * len(keep)):
        why = f"{grid.title(0)} reads as time" if timed else f"there are {count} rows"
        warnings.warn(
            f"{grid.path.name}: each row is an item, here of {len(keep)} "
            f"value{'s' * (len(keep) > 1)}, and {why}; if signals run down the columns, set -s "
            "data.layout=columns, otherwise data.layout=rows",
            stacklevel=4,
        )


def _say_numbered(grid: Grid) -> None:
    """Warn of a first row that numbers the columns."""
    first = grid.values[0]
    steps = np.diff(first[np.isfinite(first)])
    if grid.table.header is not None or len(steps) < 2 or len(grid.lines) < 2:
        return
    starts = first[0] in (0, 1) or np.isnan(first[0])
    if starts and (steps == 1).all() and not (np.diff(grid.values[1]) == 1).all():
        warnings.warn(
            f"{grid.path.name}: line {grid.lines[0]} numbers the columns, and is read as an "
            "item; remove it if it is a header",
            stacklevel=4,
        )


def _span(columns: Sequence[int]) -> str:
    if len(columns) == 1:
        return f"column {columns[0] + 1}"
    if columns[-1] - columns[0] == len(columns) - 1:
        return f"columns {columns[0] + 1} to {columns[-1] + 1}"
    return f"{len(columns)} columns"


def _numbers(table: NDArray[np.float64]) -> NDArray[np.float64] | NDArray[np.int32]:
    """Return numbers that are all whole as integers."""
    if _integral(table).all() and np.abs(table).max(initial=0) < 2**31:
        return table.astype(np.int32)
    return table


def _integral(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(table) & (table == np.trunc(table)))
