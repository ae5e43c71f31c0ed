"""One process per run directory."""

import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"
"""The name of the file."""
_HELD: set[int] = set()
"""Descriptors of the locks that this process holds."""


class DirectoryLock:
    """Hold a run directory's ``lock`` file; the system lets go of it when the process ends.

    The file says who holds it, for people.

    Raises:
        ValueError: on entry, when another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock."""
        self._descriptor = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                said = os.read(self._descriptor, 200).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise ValueError(
                    f"another process{f' ({said})' if said else ''} is training in "
                    f"{self.directory}: wait for it, or use another --out"
                ) from None
        _HELD.add(self._descriptor)
        with suppress(OSError):  # a full disk keeps nobody from holding it
            os.truncate(self._descriptor, 0)
            holder = f"process {os.getpid()} on {socket.gethostname()}\n"
            os.write(self._descriptor, holder.encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go."""
        assert self._descriptor is not None
        _HELD.discard(self._descriptor)
        os.close(self._descriptor)


def _leave_to_the_parent() -> None:
    """Close the copies that a forked process has: it may outlive the one that holds the lock."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
