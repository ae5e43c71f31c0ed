"""One file of several frames: GIF, animated WebP or PNG, or a TIFF of several pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image

from iddpm.data.sources.gif import Gif
from iddpm.data.sources.picture import (
    GRAY_MODES,
    UnreadablePictureError,
    bits_of,
    is_animated,
    opened_picture,
    raw_mode,
)
from iddpm.data.sources.tiff import description, refuse_mixed_pages

MOST_FRAMES = 1 << 16
_KEPT_MODES = GRAY_MODES | {"F", "P", "PA", "RGB", "RGBA"}
_ROOM = (1 << 24, 1 << 12)
"""Pixels that any file may promise, and for each of its bytes, if that is more."""
_TIMED = 64  # frames of which it is looked up how long they are shown


@dataclass(frozen=True)
class Facts:
    """What a file says of its frames.

    Attributes:
        count: of the frames.
        size: ``(height, width)`` in pixels.
        dtype: of the numbers: uint8, uint16 or float32.
        gray: whether all its colours are gray.
        format: Pillow's name: GIF, WEBP, PNG or TIFF.
        milliseconds: how long the first frames are shown, where that is said.
    """

    count: int
    size: tuple[int, int]
    dtype: str
    gray: bool
    format: str
    milliseconds: tuple[int, ...] = ()


def is_animation(path: Path) -> bool:
    """Say whether a file can be opened and holds several frames."""
    try:
        with opened_picture(path, str(path)) as image:
            return is_animated(image)
    except (ValueError, OSError):  # whoever reads it will say so
        return False


def read_facts(path: Path) -> Facts:
    """Return what a file says of its frames, of which it decodes few.

    Raises:
        UnreadablePictureError: a damaged file, or one that promises more than it can hold.
        ValueError: a single picture; pages that differ in size or kind, or that mean something
            else than frames; numbers that Pillow would degrade.
    """
    if _is_gif(path):
        gif = Gif(path.read_bytes(), str(path))
        times = tuple(frame.milliseconds for frame in gif.frames)
        facts = Facts(len(gif.frames), gif.size, "uint8", gif.gray, "GIF", times)
    else:
        facts = _tiff_facts(path) if _is_tiff(path) else _other_facts(path)
    if facts.count == 1:
        raise ValueError(
            f"{path} holds a single picture, and a clip has several frames: pictures are read "
            "from a folder of their own"
        )
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
    if _is_gif(path):
        frames = Gif(path.read_bytes(), str(path)).compose()
        yield from map(Image.fromarray, islice(frames, first, first + count))
        return
    with opened_picture(path, str(path)) as image:
        for number in range(first, first + count):
            image.seek(number)
            yield image.copy()


def _tiff_facts(path: Path) -> Facts:
    pages = []
    text = ""
    with opened_picture(path, str(path)) as image:
        text = description(image)
        for number in range(MOST_FRAMES + 1):
            try:
                image.seek(number)
            except EOFError:
                break
            pages.append(((image.height, image.width), image.mode, raw_mode(image)))
    size, mode, _ = pages[0]
    refuse_mixed_pages(str(path), text, len(pages), len(Image.new(mode, (1, 1)).getbands()))
    dtypes = [_dtype(path, mode, raw) for _, mode, raw in pages]
    for number, other in enumerate(pages, 1):
        if other[:2] != pages[0][:2]:
            raise ValueError(
                f"{path} holds pages that differ: the first is {size[0]}x{size[1]} ({mode}), page "
                f"{number} is {other[0][0]}x{other[0][1]} ({other[1]}); save those of one kind"
            )
    return Facts(len(pages), size, dtypes[0], mode in (*GRAY_MODES, "F"), "TIFF")


def _other_facts(path: Path) -> Facts:
    with opened_picture(path, str(path)) as image:
        count = image.n_frames if is_animated(image) else 1  # type: ignore[attr-defined]
        size, mode, raw = (image.height, image.width), image.mode, raw_mode(image)
        form, still = image.format or "", "default_image" in image.info
        times = []
        for number in range(min(count, _TIMED)):
            image.seek(number)
            if form == "WEBP":  # which tells when a frame is decoded
                image.load()
            times.append(round(image.info.get("duration", 0)))
    if still:
        raise ValueError(f"{path} holds a still picture beside its frames; save the frames alone")
    dtype = _dtype(path, mode, raw)
    if dtype != "uint8":
        raise ValueError(f"{path} holds frames of 16 bits; save them as a TIFF of many pages")
    return Facts(count, size, dtype, mode in GRAY_MODES, form, tuple(times))


def _dtype(path: Path, mode: str, raw: str) -> str:
    if mode not in _KEPT_MODES:
        raise ValueError(f"{path} holds frames of mode {mode}; save them as gray, RGB or RGBA")
    if mode == "F":
        return "float32"
    return "uint16" if bits_of(str(path), mode, raw) == 16 else "uint8"


def _is_gif(path: Path) -> bool:
    return _start(path).startswith(b"GIF8")


def _is_tiff(path: Path) -> bool:
    return _start(path)[:2] in (b"II", b"MM")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
