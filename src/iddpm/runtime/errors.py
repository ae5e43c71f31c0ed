"""Errors that end a run; each is one sentence, and the last checkpoint stays valid."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

SHARED = "shared by all ranks"
"""A note on an error that every rank raises, so that only the first prints it."""


class RunFailed(RuntimeError):  # noqa: N818 - it says what happened
    """A run cannot continue; the command line prints the reason and exits with status 1.

    Attributes:
        reason: the kind in two words, for ``exit.json``.
    """

    reason = "failed"


class TrainingDiverged(RunFailed):
    """The loss or the gradient was not finite for too many steps in a row."""

    reason = "diverged"


class RankLost(RunFailed):
    """Another process ended, or did not answer within the time limit."""

    reason = "rank lost"


class WorkerLost(RunFailed):
    """A process that reads data ahead ended, or did not answer within the time limit."""

    reason = "worker lost"


class NotSaved(RunFailed):
    """A checkpoint could not be written, even after further attempts."""

    reason = "not saved"


class DirectoryMoved(RunFailed):
    """The run directory was renamed or removed while something wrote into it."""

    reason = "moved"


class OutOfMemory(RunFailed):
    """A step takes more memory than the device has."""

    reason = "out of memory"


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn a disk error into a warning that starts with ``what`` it means."""
    try:
        yield
    except OSError as error:
        warnings.warn(f"{what}: {in_words(error)}", stacklevel=3)


def in_words(error: BaseException) -> str:
    """Return the message of an error; that of a system error without its number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return str(error)
