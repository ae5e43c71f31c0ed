"""PNG and JPEG 2000 files of more than 8 bits in color, or beside an alpha channel, by imagecodecs.

Pillow reduces these to 8 bits. They are numbers and no pictures: nothing of them is converted.
"""

import struct
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.sources.extras import needed
from iddpm.data.sources.jpeg_draft import ORIENTATION
from iddpm.data.sources.pixel_limit import check_pixels
from iddpm.data.sources.tiff_pages import TURNS, TiffPage
from iddpm.data.sources.unreadable import UnreadablePictureError

_HEAD = 1 << 16
_PNG_SAMPLES = {2: 3, 4: 2, 6: 4}  # by the color type; gray alone is a picture
_PNG = b"\x89PNG\r\n\x1a\n"
_SIZ = b"\xff\x4f\xff\x51"
"""The first two marks of a JPEG 2000 codestream: the second has size, channels and depth."""


class _Depth(NamedTuple):
    """What a header says: size, samples in a pixel, and their bits."""

    height: int
    width: int
    samples: int
    bits: int


def is_png(path: Path) -> bool:
    """Say whether a file starts as a PNG does."""
    with path.open("rb") as stream:
        return stream.read(len(_PNG)) == _PNG


def deep_page(path: Path, name: str) -> TiffPage | None:
    """Return what such a file holds, as the page of a TIFF has it; None for every other file.

    Raises:
        UnsupportedPictureError: too many pixels, or samples of more than 16 bits.
    """
    with path.open("rb") as stream:
        head = stream.read(_HEAD)
    depth = _of_png(head) or _of_jpeg2000(head)
    if depth is None:
        return None
    check_pixels(name, depth.height, depth.width)
    turn = _orientation(path) if head.startswith(_PNG) else 1
    size = (depth.height, depth.width)
    return TiffPage(
        number=0,
        size=size[::-1] if turn >= 5 else size,
        dtype=np.dtype(np.uint16),
        samples=depth.samples,
        picture=False,
        mode="",
        transparency=depth.samples in (2, 4),
        by_pillow=False,
        orientation=turn,
        rgb=depth.samples >= 3,
        what=f"{depth.samples} samples of uint16 per pixel",
    )


def read_deep(path: Path, name: str, page: TiffPage) -> NDArray[Any]:
    """Return the samples of such a file, upright, as ``[C, H, W]``.

    Raises:
        UnreadablePictureError: a damaged file.
        ModuleNotInstalledError: imagecodecs is missing.
    """
    codecs = needed("imagecodecs", "tiff", f"reading the {page.what} of {name}")
    content = path.read_bytes()
    decode = codecs.png_decode if content.startswith(_PNG) else codecs.jpeg2k_decode
    try:
        stored = np.asarray(decode(content))
    except Exception as error:  # each codec has an error of its own
        reason = " ".join(str(error).split())
        raise UnreadablePictureError(f"{name} is damaged ({reason})") from error
    size = page.size[::-1] if page.orientation >= 5 else page.size
    if stored.dtype != page.dtype or stored.shape != (*size, page.samples):
        raise UnreadablePictureError(
            f"{name} is damaged (it holds {stored.dtype} {stored.shape} where it says {page.what})"
        )
    planes = np.moveaxis(stored, -1, 0)
    if page.orientation >= 5:
        planes = planes.swapaxes(-1, -2)
    down, right = TURNS[page.orientation]
    return np.ascontiguousarray(planes[:, ::down, ::right])


def write_deep(path: Path, numbers: NDArray[Any]) -> None:
    """Write uint16 ``[C, H, W]`` of 1 to 4 samples as a PNG."""
    codecs = needed("imagecodecs", "tiff", f"writing {path.name}")
    pixels = numbers[0] if len(numbers) == 1 else np.moveaxis(numbers, 0, -1)
    path.write_bytes(codecs.png_encode(np.ascontiguousarray(pixels)))


def _of_png(head: bytes) -> _Depth | None:
    if not head.startswith(_PNG) or len(head) < 26:
        return None
    width, height, bits, color = struct.unpack(">IIBB", head[16:26])
    if bits != 16 or color not in _PNG_SAMPLES or b"acTL" in head[: head.find(b"IDAT")]:
        return None
    return _Depth(height, width, _PNG_SAMPLES[color], bits)


def _of_jpeg2000(head: bytes) -> _Depth | None:
    if not head.startswith((_SIZ, b"\0\0\0\x0cjP  \r\n\x87\n")):
        return None
    at = head.find(_SIZ)
    if at < 0 or len(head) < at + 45:
        return None
    right, low, left, top = struct.unpack(">4I", head[at + 8 : at + 24])
    (samples,) = struct.unpack(">H", head[at + 40 : at + 42])
    depths = head[at + 42 : at + 42 + 3 * samples : 3]  # of each component, less one
    bits = max((depth & 127) + 1 for depth in depths) if depths else 0
    if samples < 2 or not 8 < bits <= 16 or any(depth & 128 for depth in depths):
        return None
    return _Depth(low - top, right - left, samples, bits)


def _orientation(path: Path) -> int:
    try:
        with Image.open(path) as image:
            turn = image.getexif().get(ORIENTATION, 1)
    except Exception:  # whoever decodes the file will say so
        return 1
    return turn if turn in TURNS else 1
