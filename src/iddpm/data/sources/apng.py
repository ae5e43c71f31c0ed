"""Animated PNG files frame by frame, composed as the specification says.

Pillow blends half transparent pixels and restores former frames otherwise, so that it decodes only
the parts of which the frames are made.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.picture import opened_picture
from iddpm.data.sources.unreadable import UnreadablePictureError, UnsupportedPictureError

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CLEAR, _RESTORE = 1, 2  # what is done to a part after it was shown
_OVER = 1  # how a part is drawn: on what is there, instead of in its place
_OF_FRAMES = (b"acTL", b"fcTL", b"fdAT", b"IDAT", b"IEND", b"IHDR")


@dataclass
class _Part:
    """What one frame draws: (top, left), (height, width), the time it is shown, and how."""

    place: tuple[int, int]
    size: tuple[int, int]
    milliseconds: int
    after: int
    blend: int
    data: list[bytes] = field(default_factory=list)


class Apng:
    """The frames of an animated PNG.

    Attributes:
        size: (height, width).
        gray: whether it has no colors.
        milliseconds: how long each frame is shown.

    Raises:
        UnreadablePictureError: a truncated or damaged file.
        UnsupportedPictureError: 16 bits a sample.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._name = name
        self._shared: list[tuple[bytes, bytes]] = []
        self._parts: list[_Part] = []
        promised, kinds = 0, set()
        for kind, body in self._chunks(content):
            kinds.add(kind)
            if kind == b"IHDR":
                width, height, bits, color = struct.unpack(">IIBB", body[:10])
                self.size, self._header = (height, width), body
                self.gray = color in (0, 4)
                if bits == 16:
                    raise UnsupportedPictureError(
                        f"{name} is an animated PNG of 16 bits, which is not supported: save it "
                        "as a TIFF of several pages"
                    )
            elif kind == b"acTL":
                promised = int.from_bytes(body[:4], "big")
            elif kind == b"fcTL":
                self._parts.append(self._part(body))
            elif kind in (b"IDAT", b"fdAT") and self._parts:
                self._parts[-1].data.append(body if kind == b"IDAT" else body[4:])
            elif kind not in _OF_FRAMES and b"IDAT" not in kinds:
                self._shared.append((kind, body))
        if b"IEND" not in kinds or len(self._parts) < promised:
            raise UnreadablePictureError(
                f"{name} is truncated: {len(self._parts)} of its {promised} frames are there"
            )
        self.milliseconds = tuple(part.milliseconds for part in self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def compose(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the frames as they are seen, ``[H, W, 4]``; each is the caller's to keep."""
        canvas = np.zeros((*self.size, 4), np.uint8)
        for number, part in enumerate(self._parts):
            (top, left), (height, width) = part.place, part.size
            box = canvas[top : top + height, left : left + width]
            before = box.copy() if number else np.zeros_like(box)
            drawn = self._decode(part)
            box[:] = _over(drawn, box) if part.blend == _OVER else drawn
            yield canvas.copy()
            if part.after == _CLEAR:
                box[:] = 0
            elif part.after == _RESTORE:
                box[:] = before

    def _chunks(self, content: bytes) -> Iterator[tuple[bytes, bytes]]:
        at = len(_SIGNATURE)
        while at + 12 <= len(content):
            length = int.from_bytes(content[at : at + 4], "big")
            body = content[at + 8 : at + 8 + length]
            kind = content[at + 4 : at + 8]
            if len(body) < {b"IHDR": 13, b"acTL": 8, b"fcTL": 26, b"fdAT": 4}.get(kind, length):
                raise UnreadablePictureError(f"{self._name} is truncated, or damaged")
            yield kind, body
            at += 12 + length

    def _part(self, body: bytes) -> _Part:
        width, height, left, top, count, parts, after, blend = struct.unpack(">4I2H2B", body[4:26])
        if not height * width or top + height > self.size[0] or left + width > self.size[1]:
            raise UnreadablePictureError(f"{self._name} is damaged: a frame lies outside it")
        shown = round(1000 * count / (parts or 100))
        return _Part((top, left), (height, width), shown, after, blend)

    def _decode(self, part: _Part) -> NDArray[np.uint8]:
        """Return the pixels of a part ``[h, w, 4]``: a PNG by itself, written around its data."""
        header = struct.pack(">II", part.size[1], part.size[0]) + self._header[8:]
        chunks = [(b"IHDR", header), *self._shared, (b"IDAT", b"".join(part.data)), (b"IEND", b"")]
        content = _SIGNATURE + b"".join(
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            for kind, body in chunks
        )
        with opened_picture(content, self._name) as image:
            return np.array(image.convert("RGBA"))


def _over(drawn: NDArray[np.uint8], below: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels drawn on others, by their opacity (Porter and Duff's over)."""
    alpha, under = drawn[..., 3:] / 255.0, below[..., 3:] / 255.0
    rest = under * (1 - alpha)
    opacity = alpha + rest
    colors = (drawn[..., :3] * alpha + below[..., :3] * rest) / np.where(opacity, opacity, 1)
    return np.concatenate([colors, 255 * opacity], -1).round().astype(np.uint8)
