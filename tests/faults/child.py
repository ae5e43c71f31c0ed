"""The command line in a world that is worse: ``python child.py '{"fsync": 0.1}' train ...``.

Facts: ``fsync``, seconds that reaching the disk takes; ``hold``, a folder: as long as it has a file
``hold`` a checkpoint in writing does not go on, and files ``held`` and, once a signal to stop has
been taken, ``heard`` tell of it; ``grace``, seconds that who leaves waits for a checkpoint;
``file_size``, bytes of the longest file; ``pauses``, seconds before each further try to save.
"""

import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path


def hold(folder: Path) -> None:
    """Hold back the thread that writes a checkpoint."""
    while threading.current_thread().name == "checkpoint" and (folder / "hold").exists():
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
    if "fsync" in facts:
        before_fsync(lambda: time.sleep(facts["fsync"]))
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
