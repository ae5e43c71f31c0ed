"""Zip files whose list of members is looked at before it is read."""

import os
import struct
import zipfile
from pathlib import Path

MOST = 1 << 27
"""Bytes of the list of members, of which each takes 46 and its name; in memory, about ten times so
much. ImageNet has 86 MB."""
_END, _LOCATOR = b"PK\x05\x06", b"PK\x06\x07"
_LARGE = 0xFFFFFFFF
"""What stands for a size that only the zip64 record has."""
_TAIL = (1 << 16) + 64
"""Bytes at the end of a file among which its last record begins."""


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file to read.

    Raises:
        zipfile.BadZipFile: it is none, or is damaged.
        ValueError: its list of members is longer than is read.
    """
    size = _listed(path)
    if size > MOST:
        raise ValueError(
            f"{path} has a list of members of {size} bytes, and at most {MOST} are read: put fewer "
            "files into it, or give a folder"
        )
    try:
        return zipfile.ZipFile(path)
    except ValueError as error:  # places outside the file
        raise zipfile.BadZipFile(str(error)) from None


def _listed(path: Path) -> int:
    """Return the bytes of the list of members; 0 where the end of the file does not say it."""
    with open(path, "rb") as file:
        whole = os.fstat(file.fileno()).st_size
        file.seek(max(0, whole - _TAIL))
        tail = file.read()
        at = tail.rfind(_END)
        if at < 0 or len(tail) < at + 22:
            return 0
        (size,) = struct.unpack_from("<I", tail, at + 12)
        if size != _LARGE or tail[max(0, at - 20) : at][:4] != _LOCATOR:
            return int(size)
        (place,) = struct.unpack_from("<Q", tail, at - 12)
        if place + 56 > whole:
            return 0
        file.seek(place + 40)
        return int(struct.unpack("<Q", file.read(8))[0])
