"""The command line in a world that is worse: ``python child.py '{"grace": 0.1}' train ...``.

Facts: ``hold``, a folder: as long as it has a file ``hold`` a checkpoint in writing does not go on,
at once or after as many calls of fsync as the file says; files ``held`` and, once a signal to stop
has been taken, ``heard`` tell of it; ``grace``, seconds that who leaves waits for a checkpoint;
``file_size``, bytes of the longest file; ``pauses``, seconds before each further try to save.
"""

import itertools
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

passed = itertools.count()
"""Calls of fsync since there was something to hold."""


def hold(folder: Path) -> None:
    """Hold back the thread that writes a checkpoint, after the calls that may still pass."""
    if threading.current_thread().name != "checkpoint" or not (folder / "hold").exists():
        return
    if next(passed) < int((folder / "hold").read_text() or 0):
        return
    while (folder / "hold").exists():
        (folder / "held").touch()
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:  # given back by the first signal
            (folder / "heard").touch()
        time.sleep(0.01)


def before_fsync(action: Callable[[], None]) -> None:
    original = os.fsync

    def fsync(descriptor: int) -> None:
        action()
        original(descriptor)

    os.fsync = fsync


def main() -> None:
    facts = json.loads(sys.argv[1])
    if "hold" in facts:
        before_fsync(lambda: hold(Path(facts["hold"])))
    if "file_size" in facts:
        resource.setrlimit(resource.RLIMIT_FSIZE, (facts["file_size"],) * 2)
    from iddpm.training.checkpoints import saver

    saver.PAUSES = tuple(facts.get("pauses", saver.PAUSES))
    saver.GRACE = facts.get("grace", saver.GRACE)
    from iddpm.cli.main import main as command_line

    command_line(sys.argv[2:])


if __name__ == "__main__":
    main()
