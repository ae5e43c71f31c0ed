"""One file of several frames: GIF, animated WebP or PNG, or a TIFF of several pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from iddpm.data.sources.apng import Apng
from iddpm.data.sources.deep_pictures import is_png
from iddpm.data.sources.gif import Gif
from iddpm.data.sources.picture import (
    GRAY_MODES,
    UnreadablePictureError,
    is_animated,
    load_page,
    opened_picture,
    refuse_animated,
)
from iddpm.data.sources.tiff import refuse_differing, refuse_mixed_pages
from iddpm.data.sources.tiff_pages import is_tiff, read_description, read_pages

MOST_FRAMES = 1 << 16
_ROOM = (1 << 24, 1 << 12)
"""Pixels that any file may promise, and for each of its bytes, if that is more."""


@dataclass(frozen=True)
class Facts:
    """What a file says of its frames.

    Attributes:
        count: of the frames.
        size: ``(height, width)`` in pixels.
        dtype: of the numbers: uint8, uint16 or float32.
        gray: whether all its colors are gray.
        format: GIF, WEBP, PNG, TIFF or MP4 (any video), or ``frames`` in a folder.
        milliseconds: how long each is shown, where that is said.
    """

    count: int
    size: tuple[int, int]
    dtype: str
    gray: bool
    format: str
    milliseconds: tuple[float, ...] = ()


def can_be_opened(path: Path) -> bool:
    """Say whether a file can be opened as a picture, or as a TIFF of anything."""
    try:
        if is_tiff(path):
            return bool(read_pages(path, str(path)))
        with opened_picture(path, str(path)):
            return True
    except (ValueError, OSError):  # whoever reads it will say so
        return False


def is_animation(path: Path) -> bool:
    """Say whether a file can be opened and holds several frames."""
    try:
        if is_tiff(path):
            return len(read_pages(path, str(path))) > 1
        with opened_picture(path, str(path)) as image:
            return is_animated(image)
    except (ValueError, OSError):  # whoever reads it will say so
        return False


def read_facts(path: Path) -> Facts:
    """Return what a file says of its frames, without decoding them.

    Raises:
        UnreadablePictureError: a damaged file, or one that promises more than it can hold.
        ValueError: a single picture; pages that differ in size or kind, or that mean something
            else than frames; numbers that Pillow would degrade.
    """
    if _is_gif(path):
        gif = Gif(path.read_bytes(), str(path))
        times = tuple(frame.milliseconds for frame in gif.frames)
        facts = Facts(len(gif.frames), gif.size, "uint8", gif.gray, "GIF", times)
    elif is_png(path) and is_animation(path):
        png = Apng(path.read_bytes(), str(path))
        facts = Facts(len(png), png.size, "uint8", png.gray, "PNG", png.milliseconds)
    else:
        facts = _tiff_facts(path) if is_tiff(path) else _webp_facts(path)
    if facts.count == 1:
        raise ValueError(
            f"{path} holds a single picture, and a clip has several frames: put still pictures "
            "into their own folder"
        )
    if facts.format == "TIFF":  # whose pages have been checked
        return facts
    floor, per_byte = _ROOM
    room = max(floor, per_byte * path.stat().st_size)
    if facts.count > MOST_FRAMES or facts.count * facts.size[0] * facts.size[1] > room:
        raise UnreadablePictureError(
            f"{path} promises {facts.count} frames of {facts.size[0]}x{facts.size[1]} pixels, "
            "more than such a file can hold"
        )
    return facts


def read_frames(path: Path, first: int, count: int) -> Iterator[Image.Image]:
    """Yield some frames as they are seen.

    Raises:
        UnreadablePictureError: a damaged file.
    """
    if _is_gif(path) or (is_png(path) and is_animation(path)):
        kind = Gif if _is_gif(path) else Apng
        composed = kind(path.read_bytes(), str(path))
        for frame in islice(composed.compose(), first, first + count):
            if (frame[..., 3] == 255).all():
                frame = frame[..., 0] if composed.gray else frame[..., :3]
            yield Image.fromarray(np.ascontiguousarray(frame))
        return
    if is_tiff(path):
        pages = read_pages(path, str(path))
        yield from (load_page(path, str(path), page) for page in pages[first : first + count])
        return
    with opened_picture(path, str(path)) as image:
        for number in range(first, first + count):
            image.seek(number)
            yield image.copy()


def _tiff_facts(path: Path) -> Facts:
    pages = read_pages(path, str(path))
    first = pages[0]
    text = read_description(path, str(path))
    refuse_mixed_pages(str(path), text, len(pages), first.samples)
    refuse_differing(str(path), pages)
    if not first.picture and not (first.samples == 1 and first.dtype == np.float32):
        raise ValueError(
            f"{path} holds {first.what}, which frames cannot have: put such stacks into their "
            "own folder, where they are read as numbers"
        )
    if first.mode in ("CMYK", "LAB"):
        raise ValueError(f"{path} holds frames of mode {first.mode}; save them as gray or RGB")
    gray = not first.picture or first.mode in GRAY_MODES
    return Facts(len(pages), first.size, first.dtype.name, gray, "TIFF")


def _webp_facts(path: Path) -> Facts:
    with opened_picture(path, str(path)) as image:
        form = image.format if is_animated(image) else None
        count = image.n_frames if form == "WEBP" else 1  # type: ignore[attr-defined]
        size = (image.height, image.width)
    if form != "WEBP":
        refuse_animated(str(path), form)
    return Facts(count, size, "uint8", False, "WEBP", tuple(_webp_times(path.read_bytes())))


def _webp_times(content: bytes) -> Iterator[int]:
    """Yield how long each frame of a WebP is shown, without decoding any."""
    at = 12
    while at + 24 <= len(content):
        length = int.from_bytes(content[at + 4 : at + 8], "little")
        if content[at : at + 4] == b"ANMF":
            yield int.from_bytes(content[at + 20 : at + 23], "little")
        at += 8 + length + length % 2


def _is_gif(path: Path) -> bool:
    return _start(path).startswith(b"GIF8")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
