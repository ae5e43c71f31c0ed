"""A directory in long use: it is not created again after it was renamed or removed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iddpm.runtime.errors import DirectoryMoved

_KEPT: dict[Path, int] = {}
"""Open descriptors of such directories by their absolute paths."""


@contextmanager
def kept_directory(directory: Path) -> Iterator[None]:
    """Raise an error on writes below ``directory`` if it was renamed, replaced or removed.

    The directory stays open meanwhile, so that no later one gets its inode number. This has no
    effect if it does not exist, as on another machine, or if directories cannot be opened.
    """
    path = Path(os.path.abspath(directory))  # not resolved: a link may be changed later
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        yield
        return
    _KEPT[path] = descriptor
    try:
        yield
    finally:
        del _KEPT[path]
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create a directory and its missing parents.

    Raises:
        DirectoryMoved: it lies below a kept directory that is no longer there.
    """
    refuse_moved(path)
    path.mkdir(parents=True, exist_ok=True)


def refuse_moved(path: Path) -> None:
    """Raise DirectoryMoved for a path below a kept directory that is no longer there."""
    if not _KEPT:
        return
    path = Path(os.path.abspath(path))
    for kept, descriptor in list(_KEPT.items()):
        if path.is_relative_to(kept) and not _is_there(kept, descriptor):
            raise DirectoryMoved(_message(kept, descriptor))


def _is_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # a disk error: writing will report it
        return True


def _message(path: Path, descriptor: int) -> str:
    try:
        now = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    except OSError:  # another system than Linux
        now = None
    if now is not None and now.is_dir():
        return (
            f"{path} was renamed to {now} during training, so nothing more is saved: continue "
            f"with iddpm train --resume --out {now}"
        )
    return (
        f"{path} was renamed or removed during training, so nothing more is saved: continue "
        "with iddpm train --resume where its last checkpoint is"
    )
