"""Trainings as processes of their own, which go on when the server ends: begun and stopped."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from iddpm.config.run_config import CONFIG
from iddpm.runtime.directory_lock import LOCK, TAKEN, holder
from iddpm.training.monitoring.log_files import LOG
from iddpm.training.stop import EXIT, read_exit
from iddpm.ui.run_index import entries_of, stamp

try:
    import fcntl
except ImportError:  # Windows has no flock
    fcntl = None  # type: ignore[assignment]

OUTPUT = ".train_output.txt"
"""A file of the run directory: what a training that a page started has printed."""
TAIL = 4_000
"""Bytes of it that are looked at."""
ERROR = "error: "
"""What stands before the sentence with which a command fails."""


class Unstarted(NamedTuple):
    """A training that ended before it had a run, and the last line that it printed."""

    name: str
    line: str


class TrainingProcesses:
    """The trainings that this server has started."""

    def __init__(self) -> None:
        self._started: dict[Path, subprocess.Popen[bytes]] = {}
        self._lock = Lock()

    def start(self, run: Path, arguments: Sequence[str]) -> None:
        """Start ``iddpm`` with some arguments, in a session of its own.

        Args:
            run: the run directory, made if it is missing.
            arguments: words of the command line, ``train`` first; no shell reads them.

        Raises:
            ValueError: something trains there already.
        """
        with self._lock:
            if self.is_starting(run) or holder(run) is not None:
                raise ValueError(f"a process is training in {run}: stop it first")
            run.mkdir(parents=True, exist_ok=True)
            (run / OUTPUT).unlink(missing_ok=True)  # a link there is not followed
            with open(run / OUTPUT, "xb") as output:
                if fcntl is not None:
                    with suppress(OSError):  # of a file system without locks
                        fcntl.flock(output, fcntl.LOCK_EX)  # the process inherits it
                self._started[run] = subprocess.Popen(
                    [sys.executable, "-m", "iddpm", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def is_starting(self, run: Path) -> bool:
        """Say whether a process that a page started has not ended, also before this server."""
        process = self._started.get(run)
        return _is_locked(run / OUTPUT) if process is None else process.poll() is None

    def problem(self, run: Path) -> str:
        """Return why the training that a page started last failed, also before this server.

        Nothing if it goes on, if the run was trained since, or if ``exit.json`` says the same.
        """
        printed = stamp(run / OUTPUT)
        if printed < max(stamp(run / EXIT), stamp(run / LOG)):
            return ""
        line = last_line(run / OUTPUT)
        if not line.startswith(ERROR) or self.is_starting(run) or holder(run) is not None:
            return ""
        known = read_exit(run).get("message", "")
        return "" if line.removeprefix(ERROR) in known else line

    def unstarted(self, root: Path) -> list[Unstarted]:
        """Return the trainings below a directory that ended before they had settings."""
        return [
            Unstarted(entry.name, last_line(Path(entry.path, OUTPUT)))
            for entry in entries_of(root)
            if Path(entry.path, OUTPUT).is_file()
            and not Path(entry.path, CONFIG).exists()
            and not self.is_starting(Path(entry.path))
        ]

    def stop(self, run: Path) -> None:
        """Ask the process that trains in a directory to save and end.

        Raises:
            ValueError: nothing trains there, or what does is not of this machine.
        """
        held_by = holder(run)
        process = self._started.get(run)
        if process is not None and process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            return
        if held_by is None:
            raise ValueError(f"nothing is training in {run}")
        words = held_by.split()
        here = len(words) == 4 and words[0] == "process" and words[1].isdecimal()
        if not here or words[3] != socket.gethostname() or not _holds(int(words[1]), run / LOCK):
            raise ValueError(f"{held_by} is training in {run}: stop it there")
        os.kill(int(words[1]), signal.SIGINT)


def _holds(process: int, lock: Path) -> bool:
    """Say whether a process has a lock file open; the file alone could name any process."""
    descriptors = Path(f"/proc/{process}/fd")
    if not Path("/proc/self/fd").is_dir():  # not on this system
        return True
    try:
        entries = list(descriptors.iterdir())
    except OSError:  # it is gone, or somebody else's
        return False
    for entry in entries:
        with suppress(OSError):
            if os.path.samefile(entry, lock):
                return True
    return False


def _is_locked(path: Path) -> bool:
    """Say whether the process that prints into a file is still there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError as error:
        return error.errno in TAKEN
    finally:
        os.close(descriptor)


def last_line(path: Path) -> str:
    """Return the last line of a text file that says something."""
    if path.is_symlink():
        return ""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "")
