"""The records of a run as columns, read on as the log grows, and thinned for a plot.

A log of 100,000 records has 50 MB of text. It is read once; afterwards only what was added is.
"""

import json
from collections.abc import Sequence
from itertools import repeat
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic_core import from_json

from iddpm.training.monitoring.log_files import COLUMNS, LOG

Floats = NDArray[np.float64]

BLOCK = 8_000_000
"""Bytes of the log that are read at once."""
LARGE = 2**1000
"""Whole numbers from which on a float64 may not hold them."""
RECENT = 64
"""Records that are kept as they are, for the summary of a run."""
POINTS = 1_000
"""Intervals of a thinned plot; each has two points, at the lowest and the highest value."""


class LogColumns:
    """The log of a run directory as columns of numbers; NaN where a record lacks one."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / LOG
        self._lock = Lock()
        self._forget()

    def _forget(self) -> None:
        self._place = 0
        self._identity: tuple[int, int] | None = None
        self._head = b""
        self._parts: dict[str, list[Floats]] = {name: [] for name in COLUMNS}
        self._recent: list[dict[str, Any]] = []
        self._held_out: list[dict[str, Any]] = []
        self.count = 0

    def update(self) -> None:
        """Read what was added since the last time; all of it again where the file is another."""
        with self._lock:
            try:
                self._read_on()
            except OSError:  # there is none yet, or no more
                self._forget()

    def _read_on(self) -> None:
        with self._path.open("rb") as file:
            facts = self._path.stat()
            head = file.read(256)
            same = self._identity == (facts.st_dev, facts.st_ino) and head.startswith(self._head)
            if not same or facts.st_size < self._place:  # a run that goes on writes a new file
                self._forget()
            self._identity, self._head = (facts.st_dev, facts.st_ino), head
            file.seek(self._place)
            while block := file.read(BLOCK):
                end = block.rfind(b"\n") + 1
                if not end:
                    if len(block) == BLOCK:  # no record is that long
                        self._place += BLOCK
                        continue
                    return
                self._take(_records(block[:end]))
                self._place += end
                file.seek(self._place)

    def _take(self, records: list[dict[str, Any]]) -> None:
        try:
            columns = _columns(records)
        except (TypeError, OverflowError):  # seldom, so that not every value is looked at alone
            records = [record for record in records if _is_record(record)]
            columns = _columns(records)
        if not records:
            return
        for name, column in zip(COLUMNS, columns, strict=True):
            self._parts[name].append(column)
        self.count += len(records)
        together = [*self._recent, *records]
        gone, self._recent = together[:-RECENT], together[-RECENT:]
        self._held_out += [
            {"step": record["step"], "held_out_loss": record["held_out_loss"]}
            for record in gone
            if "held_out_loss" in record
        ]

    def column(self, name: str) -> Floats:
        """Return a column [N]."""
        with self._lock:
            parts = self._parts[name]
            if len(parts) > 1:
                self._parts[name] = parts = [np.concatenate(parts)]
            return parts[0] if parts else np.empty(0)

    def records(self) -> list[dict[str, Any]]:
        """Return the last records and, of those before, the ones with a held-out loss."""
        with self._lock:
            return [*self._held_out, *self._recent]


def _records(text: bytes) -> list[dict[str, Any]]:
    """Return the records of whole lines; those that are none are left out."""
    lines = text.splitlines()
    try:  # one call for all of them is several times faster
        found = from_json(b"[" + b",".join(lines) + b"]")
        if len(found) == len(lines):
            return [record for record in found if _has_step(record)]
    except ValueError:
        pass
    kept = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if _has_step(record):
            kept.append(record)
    return kept


def _has_step(record: Any) -> bool:
    return isinstance(record, dict) and type(record.get("step")) is int


def _is_record(record: dict[str, Any]) -> bool:
    return all(_is_number(record[name]) for name in COLUMNS if name in record)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < LARGE)


def _columns(records: list[dict[str, Any]]) -> list[Floats]:
    """Return the columns of some records.

    Raises:
        TypeError, OverflowError: one holds what is no number of a column.
    """
    columns = []
    for name in COLUMNS:
        values = list(map(dict.get, records, repeat(name), repeat(float("nan"))))
        if not set(map(type, values)) <= {int, float}:
            raise TypeError(f"{name} holds other values than numbers")
        columns.append(np.fromiter(values, np.float64, len(values)))
    return columns


def moving_average(values: Floats, width: int) -> Floats:
    """Return the mean over the last ``width`` records, NaN where a record has no value."""
    known = np.isfinite(values)
    if width <= 1 or not known.any():
        return values
    present = values[known]
    sums = np.concatenate([[0.0], np.cumsum(present)])
    ends = np.arange(1, len(present) + 1)
    starts = np.maximum(0, ends - width)
    smooth = np.full(len(values), np.nan)
    smooth[known] = (sums[ends] - sums[starts]) / (ends - starts)
    return smooth


def thinned(
    steps: Floats, columns: Sequence[Floats], points: int = POINTS
) -> tuple[Floats, list[Floats]]:
    """Return at most two values for each of ``points`` intervals, the lowest and the highest.

    A plot of them covers the same pixels as one of all values: no spike is lost.

    Args:
        steps: [N], rising.
        columns: each [N].
        points: number of intervals.
    """
    if len(steps) <= 2 * points:
        return steps, list(columns)
    starts = np.linspace(0, len(steps), points, endpoint=False).astype(np.int64)
    lasts = np.concatenate([starts[1:], [len(steps)]]) - 1
    x = np.stack([steps[starts], steps[lasts]], axis=1).ravel()
    thin = []
    for column in columns:
        low, high = np.fmin.reduceat(column, starts), np.fmax.reduceat(column, starts)
        falling = np.nan_to_num(column[lasts]) < np.nan_to_num(column[starts])
        first, second = np.where(falling, high, low), np.where(falling, low, high)
        thin.append(np.stack([first, second], axis=1).ravel())
    return x, thin
