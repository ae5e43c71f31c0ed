"""HEIC pictures, which Pillow opens by pillow-heif, and the depth of HEIC and AVIF files."""

import warnings
from pathlib import Path

from iddpm.data.sources.extras import needed

_HEVC = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
"""Brands of files whose pictures are coded by HEVC."""
_HEAD = 1 << 16


def prepare_heif(start: bytes, name: str) -> None:
    """Let Pillow open a file that starts as a HEIC does.

    Raises:
        ModuleNotInstalledError: pillow-heif is missing.
    """
    if start[4:8] != b"ftyp":
        return
    end = min(int.from_bytes(start[:4], "big"), len(start))
    brands = {start[8:12]} | {start[at : at + 4] for at in range(16, end, 4)}
    if brands & _HEVC:
        needed("pillow_heif", "heic", f"reading {name}").register_heif_opener()


def warn_of_depth(file: Path | bytes, form: str | None, name: str) -> None:
    """Warn of a HEIC or AVIF file of 10 or 12 bits, which is decoded to 8."""
    if form not in ("HEIF", "AVIF"):
        return
    if isinstance(file, bytes):
        head = file[:_HEAD]
    else:
        with file.open("rb") as stream:
            head = stream.read(_HEAD)
    bits = _stored_bits(head)
    if bits > 8:
        warnings.warn(
            f"pictures of {bits} bits in color, such as {name}, are read with 8 bits", stacklevel=3
        )


def _stored_bits(head: bytes) -> int:
    """Return the most bits per sample that the configurations of the decoders say."""
    bits = 8
    at = head.find(b"av1C")
    while 0 <= at < len(head) - 6:
        flags = head[at + 6]
        bits = max(bits, (12 if flags & 32 else 10) if flags & 64 else 8)
        at = head.find(b"av1C", at + 4)
    at = head.find(b"hvcC")
    while 0 <= at < len(head) - 21:
        bits = max(bits, (head[at + 21] & 7) + 8)
        at = head.find(b"hvcC", at + 4)
    return bits
