"""Log files of a run: JSON lines, CSV and, when wanted, TensorBoard."""

import csv
import json
from pathlib import Path
from typing import Any, TextIO

from iddpm.files import write_text

COLUMNS = (
    "step",
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
    "data_wait_share",
    "skipped",
)
"""Columns of ``log.csv``; a record leaves blank what it did not measure."""


class LogFiles:
    """Append records to ``log.jsonl``, ``log.csv`` and ``tensorboard/`` of a run directory.

    A run that goes on from an older checkpoint first drops the records after it, so that every
    step stands in the files once.

    Args:
        directory: the run directory.
        start_step: steps taken before; later records are dropped.
        tensorboard: write event files too.

    Raises:
        ValueError: TensorBoard is wanted and not installed.
    """

    def __init__(self, directory: Path, *, start_step: int = 0, tensorboard: bool = False) -> None:
        kept = [r for r in read_log(directory) if r["step"] <= start_step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_text(directory / "log.jsonl", lines)
        # Open for as long as the run lasts; close() ends them.
        self._jsonl: TextIO = (directory / "log.jsonl").open("a", encoding="utf-8")
        self._csv_file: TextIO = (directory / "log.csv").open("w", encoding="utf-8", newline="")
        self._csv = csv.DictWriter(self._csv_file, COLUMNS, extrasaction="ignore", restval="")
        self._csv.writeheader()
        self._csv.writerows(kept)
        self._events = _event_writer(directory, start_step) if tensorboard else None

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it has a ``step``."""
        self._jsonl.write(json.dumps(record) + "\n")
        self._jsonl.flush()
        self._csv.writerow(record)
        self._csv_file.flush()
        if self._events is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._events.add_scalar(name, value, record["step"])

    def close(self) -> None:
        """Close the files."""
        self._jsonl.close()
        self._csv_file.close()
        if self._events is not None:
            self._events.close()


def read_log(directory: Path) -> list[dict[str, Any]]:
    """Return the records of ``log.jsonl``; a last line cut short by a crash is left out."""
    path = directory / "log.jsonl"
    if not path.is_file():
        return []
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _event_writer(directory: Path, start_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError(
            "training.tensorboard=true needs TensorBoard: pip install 'iddpm[tensorboard]'"
        ) from None
    return SummaryWriter(str(directory / "tensorboard"), purge_step=start_step + 1)
