"""Kill a command at a chosen change of the file system, in a process forked for it.

An audit hook counts what is opened for writing, renamed, removed or made below a folder, and what
reaches the disk; at the chosen count the process kills itself. Every moment at which the files
differ can be tried this way, without a clock.
"""

import hashlib
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate"}


class Counter:
    """Counts changes below a folder and kills this process at one of them."""

    def __init__(self, folder: Path, kill_at: int | None, log: Path) -> None:
        self.folder, self.kill_at, self.log = str(folder), kill_at, log
        self.count = 0
        self.pid = os.getpid()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The audit hook."""
        if event == "open":
            path, _, flags = arguments
            if not isinstance(flags, int) or not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder):
            self.step()

    def step(self) -> None:
        """Count one change; forked workers do not count."""
        if os.getpid() != self.pid:
            return
        self.count += 1
        if self.count == self.kill_at:
            os.kill(self.pid, signal.SIGKILL)

    def install(self) -> None:
        """Start counting in this process, for good."""
        original = os.fsync

        def fsync(descriptor: int) -> None:
            original(descriptor)
            self.step()

        os.fsync = fsync
        sys.addaudithook(self)


def in_a_fork(action: Callable[[], int], folder: Path, kill_at: int | None = None) -> int:
    """Run an action in a fork; return how many changes it made, or -1 if it was killed.

    Raises:
        AssertionError: it ended with another status than 0.
    """
    log = folder.with_name(f"{folder.name}.said")
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            with log.open("w") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
                counter = Counter(folder, kill_at, log)
                counter.install()
                status = action()
                sys.stdout.flush()
                counter.kill_at = None
                folder.with_name(f"{folder.name}.count").write_text(str(counter.count))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return -1
    assert os.waitstatus_to_exitcode(status) == 0, log.read_text()
    return int(folder.with_name(f"{folder.name}.count").read_text())


def contents(folder: Path, leave_out: Callable[[str], bool]) -> dict[str, str]:
    """Return the hash of every file below a folder by its name."""
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not leave_out(name := path.relative_to(folder).as_posix())
    }
