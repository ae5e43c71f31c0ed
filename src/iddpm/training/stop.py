"""The reason why a training run ended, and its file ``exit.json``.

Exit statuses get lost: torchrun and batch systems replace them. The file stays. A started run
without the file is still running or was killed.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any

from iddpm.runtime.atomic_files import write_json
from iddpm.runtime.errors import DirectoryMoved, RankLost, RunFailed, warned

if TYPE_CHECKING:  # it imports torch, and `iddpm info` reads the file without
    from iddpm.runtime.processes import Ranks

EXIT = "exit.json"
_FIELDS = {"status": int, "reason": str, "step": int, "message": str}
"""The keys that the file always has."""


class Stop(Enum):
    """The reason why a loop ended."""

    FINISHED = "finished"
    TIME = "time is up"
    INTERRUPTED = "stopped by SIGINT"
    TERMINATED = "stopped by SIGTERM"
    WARNED = "stopped by SIGUSR1"

    @property
    def exit_status(self) -> int:
        """The status that a process ends with: 128 and the signal's number, as shells count."""
        by, _, name = self.value.rpartition(" ")
        return 128 + Signals[name] if by == "stopped by" else 0


def write_exit(
    directory: Path, status: int, reason: str, step: int, message: str, rank: int | None = None
) -> None:
    """Write ``exit.json``.

    Args:
        directory: the run directory.
        status: the exit status of the process that wrote it.
        reason: the kind, in few words.
        step: how many steps had been taken.
        message: the sentence that was printed.
        rank: the process where it began; None if it is the same on all.
    """
    said = {"status": status, "reason": reason, "step": step, "rank": rank, "message": message}
    write_json(directory / EXIT, said)


def note_end(directory: Path, stop: Stop, step: int, rank: int | None) -> None:
    """Write ``exit.json`` of a loop that ended; a warning if that is not possible."""
    message = f"{stop.value} at step {step}"
    with warned(f"{message}, which {EXIT} does not contain"):
        write_exit(directory, stop.exit_status, stop.value, step, message, rank)


def read_exit(directory: Path) -> dict[str, Any]:
    """Return the content of ``exit.json``, or nothing if it is absent or damaged."""
    try:
        said = json.loads((directory / EXIT).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    whole = isinstance(said, dict) and all(
        isinstance(said.get(name), kind) for name, kind in _FIELDS.items()
    )
    return said if whole else {}


@contextmanager
def failures_noted(directory: Path, ranks: "Ranks", step: Callable[[], int]) -> Iterator[None]:
    """Remove an older ``exit.json``, and write one if the code inside fails.

    Every rank may write, since the others may have ended. A rank that only lost another one does
    not replace that rank's file. ``step`` returns the number of steps taken.
    """
    if ranks.first:
        (directory / EXIT).unlink(missing_ok=True)
    try:
        yield
    except BaseException as error:
        if not (isinstance(error, RankLost) and (directory / EXIT).exists()):
            status, reason = _kind(error)
            message = str(error) or "left at once, without saving"
            rank = ranks.rank if ranks.count > 1 else None
            with suppress(
                OSError, DirectoryMoved
            ):  # such as on a full disk, which may be the failure
                write_exit(directory, status, reason, step(), message, rank)
        raise


def _kind(error: BaseException) -> tuple[int, str]:
    """Return the exit status that an error leads to, and what to call it."""
    if isinstance(error, KeyboardInterrupt):
        return 128 + Signals.SIGINT, Stop.INTERRUPTED.value
    if isinstance(error, RunFailed):
        return 1, error.reason
    if isinstance(error, ValueError | OSError):
        return 2, "bad input"
    return 1, type(error).__name__
