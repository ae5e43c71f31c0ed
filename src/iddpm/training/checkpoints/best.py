"""The checkpoint with the best held-out loss, kept beside the newest."""

import math
from pathlib import Path
from typing import NamedTuple

from iddpm.runtime.atomic_files import write_text
from iddpm.training.checkpoints.checkpoint import checkpoint_name, list_checkpoints, step_of
from iddpm.training.monitoring.log_files import read_log

POINTER = "best"
"""A file of the run directory that holds the name of the checkpoint, as ``latest`` does."""


class Best(NamedTuple):
    """A step and the held-out loss that was measured there."""

    step: int
    loss: float

    def improved_by(self, loss: float) -> bool:
        """Return whether another held-out loss is better; one that is not finite never is."""
        return math.isfinite(loss) and loss < self.loss


NOTHING = Best(-1, math.inf)
"""Nothing has been measured yet."""


def find_best(directory: Path) -> Best:
    """Return the best step in the log that has a checkpoint; the earliest of equal ones.

    A run that continues from an older checkpoint has dropped later records from the log, and with
    them a later best.
    """
    kept = {step_of(path) for path in list_checkpoints(directory)}
    best = NOTHING
    for record in read_log(directory):
        loss = record.get("held_out_loss", math.nan)
        if record["step"] in kept and best.improved_by(loss):
            best = Best(record["step"], loss)
    return best


def was_measured(directory: Path, step: int) -> bool:
    """Return whether the log has a held-out loss of this step."""
    return any(r["step"] == step and "held_out_loss" in r for r in read_log(directory))


def point_to_best(directory: Path, best: Best) -> None:
    """Write the pointer, or remove it if there is no best."""
    if best == NOTHING:
        (directory / POINTER).unlink(missing_ok=True)
    else:
        write_text(directory / POINTER, checkpoint_name(best.step) + "\n")


def read_best(directory: Path) -> int:
    """Return the step of the best checkpoint.

    Raises:
        FileNotFoundError: nothing was measured on held-out data.
        ValueError: the pointer is damaged.
    """
    path = directory / POINTER
    if not path.is_file():
        raise FileNotFoundError(
            f"{directory} has no best checkpoint: it needs data.held_out above 0 and "
            "training.validate_every"
        )
    name = path.read_text(encoding="utf-8", errors="replace").strip()[:200]
    try:
        return step_of(Path(name))
    except ValueError:
        raise ValueError(f"{path} holds {name!r} instead of the name of a checkpoint") from None
