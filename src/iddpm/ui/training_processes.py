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

from iddpm.runtime.directory_lock import LOCK, holder

OUTPUT = ".train_output.txt"
"""A file of the run directory: what a training that a page started has printed."""
TAIL = 4_000
"""Bytes of it that are looked at."""


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
            with open(run / OUTPUT, "wb") as output:
                self._started[run] = subprocess.Popen(
                    [sys.executable, "-m", "iddpm", *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def is_starting(self, run: Path) -> bool:
        """Say whether a process that was started here has not ended."""
        process = self._started.get(run)
        return process is not None and process.poll() is None

    def problem(self, run: Path) -> str:
        """Return why a training that was started here ended with an error; else nothing."""
        process = self._started.get(run)
        if process is None or process.poll() != 2:
            return ""
        return last_line(run / OUTPUT)

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


def last_line(path: Path) -> str:
    """Return the last line of a text file that says something."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    return next((line for line in reversed(lines) if line), "")
