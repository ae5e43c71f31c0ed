"""Run hostile cases and say what is wrong with how they end."""

import io
import os
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest.mock import patch

from iddpm.cli.main import LONGEST_LINE
from iddpm.training.checkpoints import saver
from tests.fuzz.cases import Case

SECONDS = 10
"""Longest time of a case."""
START = 110
"""Seconds more for a process of its own, on a busy machine."""


class TooLong(BaseException):
    """A case that would not end."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooLong in the main thread after so many seconds of this process's own time.

    Or, where it waits for something, after six times as many on the clock: others may keep the
    machine busy.
    """

    def stop(*_: object) -> None:
        raise TooLong

    before = {kind: signal.signal(kind, stop) for kind in (signal.SIGALRM, signal.SIGPROF)}
    signal.alarm(6 * seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def cleared(case: Case) -> Iterator[None]:
    """Remove what was made for a case."""
    try:
        yield
    finally:
        if case.made is not None:
            shutil.rmtree(case.made, ignore_errors=True)


def fault(case: Case, seconds: int = SECONDS) -> str | None:
    """Run a case in this process and return what is wrong with how it ended, or None."""
    out, complaint = io.StringIO(), io.StringIO()
    with cleared(case):
        try:
            with (
                time_limit(seconds),
                patch.object(saver, "PAUSES", ()),  # a disk in trouble is given twenty seconds
                redirect_stdout(out),
                redirect_stderr(complaint),
                warnings.catch_warnings(),
            ):
                warnings.simplefilter("ignore")
                status = case.call()
        except TooLong:
            return f"took more than {seconds} seconds"
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]
        return verdict(case, status, (out.getvalue() + complaint.getvalue()).splitlines())


def fault_of_process(case: Case, seconds: int = SECONDS + START) -> str | None:
    """Run a command in a process of its own and return what is wrong with how it ended, or None."""
    assert case.words is not None
    words = [word.encode("utf-8", "surrogatepass") for word in case.words]
    if any(b"\0" in word for word in words):
        return None  # no process can be given one
    with cleared(case):
        try:
            ended = subprocess.run(
                [sys.executable, "-m", "iddpm", *words],
                env=os.environ | {"PYTHONWARNINGS": "ignore"},
                capture_output=True,
                check=False,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired:
            return f"took more than {seconds} seconds"
        lines = (ended.stdout + ended.stderr).decode(errors="replace").splitlines()
        return verdict(case, ended.returncode, lines)


def verdict(case: Case, status: int, lines: list[str]) -> str | None:
    """Return what is wrong with a status and lines that were printed, or None."""
    if any(line.startswith("Traceback") for line in lines):
        return f"a traceback: {lines[-1:]}"
    if any(len(line) > LONGEST_LINE + len(str(case.out or "")) for line in lines):
        return f"a line of {max(map(len, lines))} characters"
    if any("\x1b" in line for line in lines):
        return "a control character was printed"
    errors = [line for line in lines if line.startswith("error: ")]
    if status not in (0, 1, 2):
        return f"status {status}"
    if bool(status) != bool(errors):
        return f"status {status} with {len(errors)} errors"
    if status and case.out is not None and case.out.exists():
        return f"status {status} and {case.out} was made: {lines[-1:]}"
    if case.out is not None:
        shutil.rmtree(case.out, ignore_errors=True)
    return None
