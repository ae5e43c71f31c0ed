"""One process per directory."""

import errno
import os
import socket
import stat
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"
"""The name of the file."""
GLANCES, GLANCE = 5, 0.05
"""The number of further attempts at a taken lock, and the seconds between them."""
NO_FILE = "{} is not a regular file, as a lock must be: remove it"
_HELD: set[int] = set()
"""Descriptors of the locks that this process holds."""


TAKEN = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES)
"""Errors of the system if another process holds the lock."""
UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
"""Errors of file systems without locks, such as some NFS."""


class DirectoryLock:
    """Hold a run directory's ``lock`` file; the system releases it when the process ends.

    The file names the holder, for people.

    Raises:
        ValueError: on entry, when another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock."""
        self._descriptor = _open(self.directory / LOCK)
        if fcntl is not None:
            try:
                self._insist()
            except OSError as error:
                if error.errno not in TAKEN:
                    os.close(self._descriptor)
                    raise
                said = os.read(self._descriptor, 200).decode(errors="replace").strip()
                os.close(self._descriptor)
                raise ValueError(
                    f"another process{f' ({said})' if said else ''} is training in "
                    f"{self.directory}: wait for it, or use another --out"
                ) from None
        _HELD.add(self._descriptor)
        with suppress(OSError):  # a full disk does not prevent holding it
            os.truncate(self._descriptor, 0)
            holder = f"process {os.getpid()} on {socket.gethostname()}\n"
            os.write(self._descriptor, holder.encode())
        return self

    def _insist(self) -> None:
        """Take the lock; try again if it may be held by :func:`holder`, which only looks."""
        assert self._descriptor is not None
        for more in reversed(range(GLANCES)):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in UNSUPPORTED:
                    warnings.warn(
                        f"the file system of {self.directory} has no locks ({error.strerror}): "
                        "make sure that only one process trains there",
                        stacklevel=4,
                    )
                    return
                if error.errno not in TAKEN or not more:
                    raise
                time.sleep(GLANCE)
            else:
                return

    def __exit__(self, *_: object) -> None:
        """Release the lock."""
        assert self._descriptor is not None
        _HELD.discard(self._descriptor)
        os.close(self._descriptor)


def _open(path: Path) -> int:
    """Open a lock file, which is never a link: that would be another's file.

    Raises:
        ValueError: there is a link, also a hard one, a folder or a device of that name.
    """
    try:
        # Not blocking, in case it is a pipe.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o644)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise ValueError(NO_FILE.format(path)) from None
        raise
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:  # also a file of another name
        os.close(descriptor)
        raise ValueError(NO_FILE.format(path))
    return descriptor


def holder(directory: Path) -> str | None:
    """Return who holds a run directory's lock, such as ``process 7 on box``; None for nobody.

    On systems without such locks it is always None.
    """
    try:
        with open(directory / LOCK, encoding="utf-8", errors="replace") as file:
            if fcntl is not None:
                try:
                    # Shared, so that two readers do not take each other for a holder.
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError as error:
                    if error.errno in TAKEN:
                        return file.read(200).strip() or "a process"
    except OSError:  # there is none, or it is no file
        pass
    return None


@contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold a lock file after waiting for its holder; the system releases it with the process."""
    descriptor = _open(path)
    try:
        if fcntl is not None:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
        yield
    finally:
        os.close(descriptor)


def _leave_to_the_parent() -> None:
    """Close the copies in a forked process, which may outlive the process that holds the lock."""
    for descriptor in _HELD:
        os.close(descriptor)
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_the_parent)
