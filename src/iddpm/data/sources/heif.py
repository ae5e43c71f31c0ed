"""HEIC pictures, which Pillow opens by pillow-heif, and the depth of HEIC and AVIF files."""

import struct
import warnings
from pathlib import Path

from PIL import Image

from iddpm.data.sources.extras import needed

_HEVC = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))
"""Brands of files whose pictures are coded by HEVC."""
_HEAD = 1 << 16
_LIKE_SRGB = ((1, 2), (1, 2, 6, 13, 14, 15))
"""Primaries and transfers, as H.273 numbers them, that are unknown, or shown as sRGB is."""


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


def read_words(image: Image.Image, file: Path | bytes, name: str) -> None:
    """Warn of a HEIC or AVIF of 10 or 12 bits, which is decoded to 8, and note its colors.

    These are left in ``image.info["cicp"]`` where they are not those of sRGB, as a PNG has them.
    """
    if image.format not in ("HEIF", "AVIF"):
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
    at = head.find(b"colrnclx")
    if 0 <= at <= len(head) - 14:
        primaries, transfer = struct.unpack(">HH", head[at + 8 : at + 12])
        if primaries not in _LIKE_SRGB[0] or transfer not in _LIKE_SRGB[1]:
            image.info["cicp"] = bytes((primaries & 255, transfer & 255, 0, 1))


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
