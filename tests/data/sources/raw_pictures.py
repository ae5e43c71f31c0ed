"""PNG and BMP files, written byte by byte after their specifications."""

import struct
import zlib

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
          (1, 0, 2, 1))  # fmt: skip
"""Row and column of the first pixel of each pass, and the steps from one to the next."""


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    samples: np.ndarray,
    kind: int,
    bits: int,
    *,
    interlaced: bool = False,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A PNG of samples [H, W, C] (gray and palettes [H, W]) as they are stored.

    ``before`` and ``after`` are chunks on both sides of the pixels.
    """
    samples = samples.reshape(*samples.shape[:2], -1)
    height, width, _ = samples.shape
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    parts = [samples]
    if interlaced:
        parts = [samples[y::down, x::right] for y, x, down, right in _ADAM7]
    pixels = b"".join(_rows(part, bits) for part in parts if part.size)
    body = before + chunk(b"IDAT", zlib.compress(pixels)) + after
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + body + chunk(b"IEND", b"")


def _rows(samples: np.ndarray, bits: int) -> bytes:
    if bits == 16:
        rows = samples.astype(">u2").reshape(len(samples), -1).view(np.uint8)
    else:
        flat = samples.astype(np.uint8).reshape(len(samples), -1, 1)
        rows = np.packbits(np.unpackbits(flat, axis=-1)[..., 8 - bits :].reshape(len(flat), -1), -1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def bmp(
    rows: list[bytes],
    size: tuple[int, int],
    bits: int,
    *,
    compression: int = 0,
    palette: bytes = b"",
    masks: tuple[int, ...] = (),
    down: bool = False,
) -> bytes:
    """A BMP of rows of pixels as they are stored, from the top; ``size`` is (height, width).

    Rows are padded to four bytes, and written from the bottom unless ``down``. Four ``masks`` make
    the header one of version 4.
    """
    height, width = size
    version = 108 if len(masks) == 4 else 40
    padded = [row + bytes(-len(row) % 4) if compression in (0, 3) else row for row in rows]
    body = b"".join(padded if down else padded[::-1])
    colors = len(palette) // 4
    head = struct.pack(
        "<IiiHHIIiiII", version, width, -height if down else height, 1, bits, compression,
        len(body), 2835, 2835, colors, 0
    )  # fmt: skip
    fields = b"".join(struct.pack("<I", mask) for mask in masks)
    head = head + fields if version == 40 else (head + fields).ljust(108, b"\0")
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + palette + body
