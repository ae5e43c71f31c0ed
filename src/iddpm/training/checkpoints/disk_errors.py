"""Disk errors of checkpoints, each in one sentence."""

import errno
import shutil
from contextlib import suppress
from pathlib import Path

from iddpm.training.checkpoints.checkpoint_files import list_checkpoints

ADVICE = {
    errno.ENOSPC: "free some space, or lower training.keep_checkpoints",
    errno.EDQUOT: "free some of your quota, or lower training.keep_checkpoints",
    errno.EROFS: "make it writable again",
    errno.EACCES: "make it writable again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
}


def in_words(error: OSError, step: int, root: Path, directory: Path) -> str:
    """Return what failed for the checkpoint of a step in ``root``, what is left, and what to do."""
    what = str(error)
    if error.strerror:
        name = Path(str(error.filename)).name if error.filename else "a file"
        what = f"{error.strerror}: {name} in {root}"
    free = "an unknown amount"
    with suppress(OSError):
        free = f"{shutil.disk_usage(directory).free / 1e6:.0f} MB"
    kept = [path.name for path in list_checkpoints(directory)]
    advice = ADVICE.get(error.errno or 0, "check the disk")
    return (
        f"the checkpoint of step {step} could not be written ({what}; {free} free): "
        f"{advice}; {f'{kept[-1]} is kept' if kept else 'there is none yet'}"
    )
