"""Log files of a run, JSON lines and CSV, and trackers of its records."""

import csv
import io
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from iddpm.runtime.atomic_files import write_text

LOG = "log.jsonl"
"""The file of a run directory with its records."""
COLUMNS = (
    "step",
    "time",
    "seconds",
    "loss",
    "mse",
    "vb",
    "loss_q0",
    "loss_q1",
    "loss_q2",
    "loss_q3",
    "held_out_loss",
    "gradient_norm",
    "learning_rate",
    "items_per_second",
    "compute_share",
    "data_wait_share",
    "memory_mb",
    "skipped",
    "near_copies",
)
"""Columns of ``log.csv``; a record leaves blank what it did not measure."""


def held_out_measure(record: Mapping[str, Any]) -> str:
    """Return what ``held_out_loss`` of a record is: of distilled runs the distance of samples."""
    few_steps = any(name.startswith("frechet_") for name in record)
    return "Frechet distance" if few_steps else "held-out loss"


class Tracker(Protocol):
    """A receiver of records in addition to the files."""

    name: str
    """Its name in messages."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Take a record; after an error it receives no more."""

    def close(self) -> None:
        """Close it."""


class LogFiles:
    """Append records to ``log.jsonl`` and ``log.csv`` of a run directory, and pass them on.

    A run that continues from an older checkpoint first drops the records after it, so that the
    files have each step once. A log never ends a run: if the disk is full, there is one warning,
    and the missing text is written when there is space again.

    Args:
        directory: the run directory.
        start_step: steps taken before; later records are dropped.
        trackers: further receivers; one that fails is dropped with a warning.
    """

    def __init__(
        self, directory: Path, *, start_step: int = 0, trackers: Sequence[Tracker] = ()
    ) -> None:
        kept = [r for r in read_log(directory) if r["step"] <= start_step]
        self._jsonl = _Growing(directory / LOG, "".join(map(_json_line, kept)))
        rows = ",".join(COLUMNS) + "\n" + "".join(map(_csv_line, kept))
        self._csv = _Growing(directory / "log.csv", rows)
        self._trackers = list(trackers)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record; it has a ``step``."""
        self._jsonl.append(_json_line(record))
        self._csv.append(_csv_line(record))
        for tracker in list(self._trackers):
            try:
                tracker.write(record)
            except Exception as error:
                self._trackers.remove(tracker)
                _give_up(tracker, error)

    def close(self) -> None:
        """Close the files and the trackers."""
        self._jsonl.close()
        self._csv.close()
        for tracker in self._trackers:
            try:
                tracker.close()
            except Exception as error:
                _give_up(tracker, error)


class _Growing:
    """A text file that only grows; text that cannot be written waits for the next time."""

    def __init__(self, path: Path, text: str) -> None:
        write_text(path, text)
        self._path = path
        # Unbuffered: the written part of a line is known, and close() has nothing to do.
        self._file = path.open("ab", buffering=0)
        self._waiting = b""
        self._warned = False

    def append(self, text: str) -> None:
        """Write the waiting text and this one."""
        self._waiting += text.encode()
        try:
            while self._waiting:
                self._waiting = self._waiting[self._file.write(self._waiting) :]
        except OSError as error:
            if not self._warned:
                warnings.warn(f"{self._path} cannot be written ({error})", stacklevel=4)
            self._warned = True

    def close(self) -> None:
        """Try once more, then close."""
        self.append("")
        self._file.close()


def read_log(directory: Path) -> list[dict[str, Any]]:
    """Return the records of ``log.jsonl``.

    Lines that are no records are left out with a warning; a last line that a crash cut short is
    left out without one.
    """
    path = directory / LOG
    if not path.is_file():
        return []
    lines = path.read_bytes().split(b"\n")
    found = [(number, _record(line)) for number, line in enumerate(lines, 1) if line.strip()]
    damaged = [number for number, record in found if record is None and number < len(lines)]
    if damaged:
        warnings.warn(
            f"{path} has {len(damaged)} line{'s' * (len(damaged) > 1)} without a record, the "
            f"first of them line {damaged[0]}: left out",
            stacklevel=2,
        )
    return [record for _, record in found if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line, or None if it holds none."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):  # also bytes that are no text, and endless brackets
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        return None
    numbers = (record[name] for name in COLUMNS if name in record)
    ranks = record.get("ranks", {"": [0]})
    whole = isinstance(ranks, dict) and all(isinstance(r, list) and r for r in ranks.values())
    return record if whole and ranks and all(type(n) in (int, float) for n in numbers) else None


def _json_line(record: Mapping[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _csv_line(record: Mapping[str, Any]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow([record.get(name, "") for name in COLUMNS])
    return line.getvalue()


def _give_up(tracker: Tracker, error: Exception) -> None:
    warnings.warn(f"{tracker.name} gets no more records of this run: {error}", stacklevel=3)
