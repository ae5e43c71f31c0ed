"""Write files atomically: a reader never sees a part of one."""

import json
import os
import platform
import re
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iddpm.runtime.kept_directory import make_directory

_HOST = f"{zlib.crc32(platform.node().encode()):08x}"
_TEMPORARY = re.compile(r"\..+\.tmp_(?:([0-9a-f]{8})_([0-9]+)_)?\w{8}(\.\w+)?")
_latest: Path | None = None
"""The directory written to last: a thousand files in a row need one search for old files."""


def write_atomically(path: Path, write: Callable[[Path], Any]) -> Path:
    """Let ``write(temporary)`` fill a temporary file beside ``path``, then rename it into place.

    The temporary name keeps the suffix, since writers choose the format by it. When ``write``
    raises, the temporary file is removed and an older ``path`` stays as it was.

    Returns:
        ``path``, for printing.

    Raises:
        DirectoryMoved: see :func:`~iddpm.runtime.kept_directory.kept_directory`.
    """
    path = Path(path)
    make_directory(path.parent)
    global _latest
    if path.parent != _latest:
        _clear_left_behind(path.parent)
        _latest = path.parent
    prefix = f".{path.stem}.tmp_{_HOST}_{os.getpid()}_"
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        fsync_file(temporary)
        make_public(temporary, 0o666)  # mkstemp makes it private; a result should not be
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if (
            isinstance(error, OSError) and error.filename is None
        ):  # the error of a full disk has no name
            error.filename = str(path)
        raise
    return path


def make_public(path: Path, mode: int) -> None:
    """Set the permissions of a temporary file or directory: ``mode`` without the umask."""
    umask = os.umask(0)
    os.umask(umask)
    path.chmod(mode & ~umask)


def clear_temporaries(directory: Path) -> None:
    """Remove the temporary files that killed processes left in ``directory`` itself.

    Another thread of this process may be writing there, such as a tracker's.
    """
    ours = (_HOST, str(os.getpid()))
    for path in directory.glob(".*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found.group(1, 2) != ours:
            path.unlink(missing_ok=True)


def _clear_left_behind(directory: Path) -> None:
    """Remove the temporary files of processes of this machine that have ended."""
    for path in directory.glob(".*.tmp_*"):
        found = _TEMPORARY.fullmatch(path.name)
        if found and found[1] == _HOST and not _is_running(int(found[2])):
            path.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name == "nt":  # os.kill would end it there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # the process of another user
        return True
    return True


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write ``value`` as indented JSON atomically."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def fsync_file(path: Path) -> None:
    """Make what was written to a file durable."""
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def fsync_directory(path: Path) -> None:
    """Make renames inside ``path`` durable; a no-op where directories cannot be opened."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
