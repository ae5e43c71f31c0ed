"""Bytes of sound that a file promises and does not hold; libsndfile reads what is left in silence.

The length is in the chunks of WAV and AIFF, in the pages of Ogg, and in the first frame of MP3
files that have a Xing or Info header.
"""

import os
import re
from pathlib import Path
from typing import BinaryIO, Literal

_UNKNOWN = 0x7FFFF000
"""Bytes from which a length stands for one that was not known (sox, ffmpeg) or lies elsewhere."""
_PAGE = 27  # bytes of an Ogg page before the table of its segments
_LARGEST_PAGE = _PAGE + 255 + 255 * 255
_XING = re.compile(rb"(?:Xing|Info)\0\0\0(.)", re.DOTALL)
_KILOBITS = (
    (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
)
_FRAMES, _BYTES = 1, 2  # flags of such a header


def missing_bytes(path: Path) -> int:
    """Return how many bytes a WAV, AIFF, Ogg or MP3 file promises and does not hold.

    None are missing where a program that could not know the length wrote the most that fits.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:] == b"WAVE":
            return _of_chunk(file, b"data", "big" if head[:4] == b"RIFX" else "little")
        if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
            return _of_chunk(file, b"SSND", "big")
        if head[:4] == b"OggS":
            return _of_last_page(file)
        return _of_frames(file, head)


def _of_chunk(file: BinaryIO, kind: bytes, order: Literal["big", "little"]) -> int:
    nbytes = os.fstat(file.fileno()).st_size
    while len(name := file.read(8)) == 8:
        length = int.from_bytes(name[4:], order)
        if name[:4] == kind:
            return 0 if length >= _UNKNOWN else length - (nbytes - file.tell())
        file.seek(length + length % 2, os.SEEK_CUR)
    return 0


def _of_last_page(file: BinaryIO) -> int:
    nbytes = os.fstat(file.fileno()).st_size
    file.seek(max(0, nbytes - 2 * _LARGEST_PAGE))
    tail = file.read()
    at, end = tail.rfind(b"OggS\0"), 0
    while at >= 0:  # the last that is a page, and no such letters within one
        table = tail[at + _PAGE :][: tail[at + _PAGE - 1] if at + _PAGE <= len(tail) else 0]
        end = at + _PAGE + len(table) + sum(table)
        if end >= len(tail) or tail[end : end + 4] == b"OggS":
            break
        at = tail.rfind(b"OggS\0", 0, at)
    return end - len(tail) if at >= 0 else 0


def _of_frames(file: BinaryIO, head: bytes) -> int:
    nbytes = os.fstat(file.fileno()).st_size
    start = _after_tag(head)
    file.seek(start)
    first = file.read(256)
    found = _XING.search(first)
    if found is None or not found[1][0] & _BYTES:
        return 0
    at = found.end() + (4 if found[1][0] & _FRAMES else 0)
    length = int.from_bytes(first[at : at + 4], "big")
    return max(0, length - (nbytes - start)) if length < _UNKNOWN else 0


def _after_tag(head: bytes) -> int:
    """Return where a file goes on after an ID3 tag in front, whose length has 7 bits to a byte."""
    if head[:3] != b"ID3":
        return 0
    return 10 + sum((byte & 127) << 7 * (3 - k) for k, byte in enumerate(head[6:10]))


def is_estimated(path: Path) -> bool:
    """Say whether libsndfile guesses the length of an MP3: frames of several rates, and no index.

    A frame starts with 11 bits of ones, the version, the layer (here the third), the number of its
    bit rate in a table, its sample rate, and whether it is a byte longer (ISO 11172-3, 2.4.1.3).
    """
    with path.open("rb") as file:
        at = _after_tag(file.read(12))
        file.seek(at)
        if _XING.search(file.read(256)):
            return False
        first = None
        while True:
            file.seek(at)
            head = int.from_bytes(file.read(4), "big")
            version, layer = head >> 19 & 3, head >> 17 & 3
            number, rate = head >> 12 & 15, head >> 10 & 3
            if head >> 21 != 0x7FF or layer != 1 or version == 1 or number in (0, 15) or rate == 3:
                return False
            if first not in (None, number):
                return True
            first = number
            whole = version == 3  # MPEG-1; else half the rate or a quarter, and half the samples
            kilobits = _KILOBITS[not whole][number - 1]
            hertz = (44_100, 48_000, 32_000)[rate] >> (3 - version if version else 2)
            at += (144 if whole else 72) * 1000 * kilobits // hertz + (head >> 9 & 1)
