"""One process per run directory."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]


class DirectoryLock:
    """Hold a run directory's ``lock`` file; the system lets go of it when the process ends.

    Raises:
        ValueError: on entry, when another process holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        """Take the lock."""
        self._descriptor = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        if fcntl is not None:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._descriptor)
                raise ValueError(
                    f"another process is training in {self.directory}: wait for it, or use "
                    "another --out"
                ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go."""
        assert self._descriptor is not None
        os.close(self._descriptor)
