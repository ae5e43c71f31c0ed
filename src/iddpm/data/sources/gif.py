"""GIF animations, composed as the format says.

Pillow decodes the pixels, and does not compose them: where the first frame is gray it loses the
colors of later ones, and it fills with a color what is to be transparent.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.picture import UnreadablePictureError, opened_picture

_TO_TRANSPARENT, _TO_PREVIOUS = 2, 3
_CONTROL = (0, None, 0)
_INTERLACED = 0x40


@dataclass(frozen=True)
class GifFrame:
    """One picture of a GIF and what becomes of it.

    Attributes:
        top, left, height, width: where it is drawn.
        palette: ``[<=256, 3]``.
        transparent: the index that leaves what was there.
        disposal: what is done before the next frame: 2 clears the box, 3 restores it.
        milliseconds: how long it is shown.
        flags: of the picture; tell whether its rows are interlaced.
        data: where its compressed pixels are in the file.
    """

    top: int
    left: int
    height: int
    width: int
    palette: NDArray[np.uint8]
    transparent: int | None
    disposal: int
    milliseconds: int
    flags: int
    data: slice


class Gif:
    """The frames of a GIF file.

    Args:
        content: of the file.
        name: for messages.

    Attributes:
        size: ``(height, width)``.
        frames: in order.
        gray: whether all colors in its palettes are gray.

    Raises:
        UnreadablePictureError: it is damaged, cut short or no GIF.
    """

    def __init__(self, content: bytes, name: str) -> None:
        self._content, self._name = content, name
        if content[:6] not in (b"GIF87a", b"GIF89a"):
            raise UnreadablePictureError(f"{name} is not a GIF file")
        try:
            width, height = struct.unpack_from("<HH", content, 6)
            self.size = (height, width)
            self.frames = list(self._parse())
        except (struct.error, IndexError):  # it ends before its own end mark
            raise UnreadablePictureError(f"{name} is truncated") from None
        if not self.frames:
            raise self._damaged("it holds no frame")
        self.gray = all(bool((f.palette == f.palette[:, :1]).all()) for f in self.frames)

    def compose(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each frame as it is seen, ``[height, width, 4]``.

        Raises:
            UnreadablePictureError: damaged pixels.
        """
        canvas = np.zeros(self.size, np.uint32)  # four bytes a pixel, moved as one
        for frame in self.frames:
            indices = self._indices(frame)
            colors = np.full((256, 4), 255, np.uint8)
            colors[: len(frame.palette), :3] = frame.palette
            drawn = np.ones_like(indices, bool)
            if frame.transparent is not None:
                drawn = indices != frame.transparent  # which may lie beyond the palette
            if (drawn & (indices >= len(frame.palette))).any():
                raise self._damaged("a pixel has a color that is in no palette")
            box = canvas[
                frame.top : frame.top + frame.height, frame.left : frame.left + frame.width
            ]
            before = box.copy()
            np.copyto(box, colors.view(np.uint32)[indices, 0], where=drawn)
            yield canvas.view(np.uint8).reshape(*self.size, 4).copy()
            if frame.disposal == _TO_TRANSPARENT:
                box[:] = 0
            elif frame.disposal == _TO_PREVIOUS:
                box[:] = before

    def _indices(self, frame: GifFrame) -> NDArray[np.uint8]:
        """Let Pillow unpack one frame, as a file of its own whose palette is its indices."""
        size = struct.pack("<HH", frame.width, frame.height)
        alone = (
            b"GIF89a" + size + bytes(3) + b"," + bytes(4) + size + bytes([frame.flags])
            + self._content[frame.data] + b";"
        )  # fmt: skip
        with opened_picture(alone, self._name) as image:
            return np.array(image)

    def _parse(self) -> Iterator[GifFrame]:
        content = self._content
        shared, at = _palette(content, 13, content[10])
        disposal, transparent, milliseconds = control = _CONTROL
        while content[at] != 0x3B:  # the end mark
            kind = content[at]
            if kind == 0x21:  # an extension
                label = content[at + 1]
                if label == 0xF9:
                    packed, delay, index = struct.unpack_from("<BHB", content, at + 3)
                    control = (packed >> 2 & 7, index if packed & 1 else None, 10 * delay)
                elif label == 0x01:  # a text, to which the control belonged
                    control = _CONTROL
                at = _after_blocks(content, at + 2)
            elif kind == 0x2C:  # a picture
                left, top, width, height, flags = struct.unpack_from("<HHHHB", content, at + 1)
                own, start = _palette(content, at + 10, flags)
                palette = shared if own is None else own
                at = _after_blocks(content, start + 1)
                inside = top + height <= self.size[0] and left + width <= self.size[1]
                if palette is None or not (inside and width and height):
                    raise self._damaged("a frame without a palette, or outside the picture")
                disposal, transparent, milliseconds = control
                yield GifFrame(
                    top, left, height, width, palette, transparent, disposal, milliseconds,
                    flags & _INTERLACED, slice(start, at),
                )  # fmt: skip
                control = _CONTROL
            elif kind == 0:  # stray, and harmless
                at += 1
            else:
                raise self._damaged(f"unknown block {kind}")

    def _damaged(self, why: str) -> UnreadablePictureError:
        return UnreadablePictureError(f"{self._name} is damaged ({why})")


def _palette(content: bytes, at: int, flags: int) -> tuple[NDArray[np.uint8] | None, int]:
    """Return the palette at a place, if the flags say that there is one, and what follows it."""
    if not flags & 0x80:
        return None, at
    end = at + 3 * (2 << (flags & 7))
    if end > len(content):
        raise IndexError
    return np.frombuffer(content[at:end], np.uint8).reshape(-1, 3), end


def _after_blocks(content: bytes, at: int) -> int:
    """Return the place behind blocks that begin with their lengths and end with an empty one."""
    while content[at]:
        at += content[at] + 1
    return at + 1
