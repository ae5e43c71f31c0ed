"""The pages of a TIFF by tifffile: what they hold, without decoding, and their samples."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.pixel_limit import check_pixels
from iddpm.data.sources.unreadable import UnreadablePictureError, UnsupportedPictureError

TIFF = (".tif", ".tiff")
_MOST_PAGES = 1 << 16
_ROOM = (1 << 24, 1 << 12)
"""Bytes of samples that any file may promise, and for each of its bytes, if that is more."""
_METAMORPH = 33629  # has an entry for each plane of a stack, of which one is listed
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_GRAY, _RGB, _PALETTE, _CMYK, _YCBCR, _LAB = (0, 1), 2, 3, 5, 6, 8
_MODES = {(0, 1): "L", (1, 1): "L", (0, 2): "LA", (1, 2): "LA", (2, 3): "RGB", (2, 4): "RGBA",
          (3, 1): "P", (5, 4): "CMYK", (6, 3): "RGB", (8, 3): "LAB"}  # fmt: skip
"""By photometric interpretation and samples."""
_ALPHA = ((1,), (2,))  # ExtraSamples: associated, or unassociated
_BY_PILLOW = frozenset((1, 2, 3, 4, 5, 7, 8, 32773, 32946))
"""Compressions that Pillow decodes exactly: none, fax, LZW, JPEG, deflate, PackBits."""
_PREDICTED = frozenset((5, 8, 32946))
"""Those of which it does so where the differences of samples are stored: LZW, deflate."""

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what matters is raised or checked


@dataclass(frozen=True)
class TiffPage:
    """What a page says of itself.

    Attributes:
        number: among all pages of the file, from 0 on.
        size: ``(height, width)``, as shown.
        dtype: of the samples: uint8 where they have less than 8 bits.
        samples: in a pixel.
        picture: whether it is a picture: gray, color or a palette of up to 8 bits, with or without
            transparency, or gray of 16 bits; others hold numbers.
        mode: what Pillow calls such a picture; empty where it is none.
        transparency: whether its last sample is one.
        by_pillow: whether Pillow decodes it exactly.
        orientation: 1 to 8, as in EXIF.
        rgb: whether its first three samples are red, green and blue.
        what: for messages, such as ``5 samples of uint8``.
    """

    number: int
    size: tuple[int, int]
    dtype: np.dtype[Any]
    samples: int
    picture: bool
    mode: str
    transparency: bool
    by_pillow: bool
    orientation: int
    rgb: bool
    what: str


def is_tiff(file: Path | bytes) -> bool:
    """Say whether a file starts as a TIFF or a BigTIFF does."""
    if isinstance(file, bytes):
        start = file[:4]
    else:
        with file.open("rb") as stream:
            start = stream.read(4)
    return start in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def read_pages(file: Path | bytes, name: str) -> list[TiffPage]:
    """Return the pages of a TIFF; those that repeat another at a reduced size are left out.

    Args:
        file: where it lies, or what it holds.
        name: what messages call it.

    Raises:
        UnreadablePictureError: a damaged file, or one that promises more than it can hold.
        UnsupportedPictureError: pages that are no pictures in a plane, or have too many pixels.
    """
    nbytes = len(file) if isinstance(file, bytes) else file.stat().st_size
    found: list[TiffPage] = []
    masks = 0
    with _opened(file, name) as tiff:
        promised, room = 0, _ROOM[0]
        for number, page in enumerate(_ifds(tiff)):
            kind = _number(page, 254)
            if kind & _REDUCED or _number(page, 255) == 2:
                continue
            if kind & _MASK:
                masks += 1
                continue
            facts, size = _facts(page, number, name), _promised(page, name, nbytes)
            promised, room = promised + size[0], max(room, size[1] * nbytes)
            if promised > room or len(found) >= _MOST_PAGES:
                raise UnreadablePictureError(
                    f"{name} promises {number + 1} or more pages of {facts.size[0]}x"
                    f"{facts.size[1]} pixels, more than such a file can hold"
                )
            found.append(facts)
        said, listed = _said(tiff), number + 1 if found else 0
    if not found:
        raise UnreadablePictureError(f"{name} holds no page of full size")
    if said > listed:
        raise ValueError(
            f"{name} has {listed} page{'s' * (listed > 1)} listed of {said} that its metadata "
            "promises (as ImageJ writes beyond 4 GB): save it with a complete list, or as a "
            ".npy array"
        )
    if masks:
        warnings.warn(
            f"{name} holds {masks} page{'s' * (masks > 1)} with a transparency mask, skipped",
            stacklevel=3,
        )
    return found


def _said(tiff: Any) -> int:
    """Return how many pages the first one says that the file has, also those that no list names."""
    tags = tiff.pages[0].tags
    text, planes = tags.valueof(270), tags.get(_METAMORPH)
    if planes is not None:
        return int(planes.count)
    if not isinstance(text, str):
        return 1
    if text.startswith('{"shape"') and '"truncated": true' in text:
        return int(prod(json.loads(text)["shape"]) // prod(tiff.pages[0].shape))
    return int(imagej_note(text).get("images", 1))


def imagej_note(text: str) -> dict[str, int]:
    """Return the numbers in a description by ImageJ; none of other descriptions."""
    if not text.startswith("ImageJ="):
        return {}
    return {k: int(v) for k, v in re.findall(r"^(\w+)=(\d{1,9})\s*$", text, re.MULTILINE)}


def read_samples(file: Path | bytes, name: str, page: TiffPage) -> NDArray[Any]:
    """Return the samples of a page, upright, as ``[C, H, W]`` in this machine's byte order.

    Raises:
        UnreadablePictureError: a damaged page.
        ValueError: a compression whose codec is not installed.
    """
    from tifffile import COMPRESSION

    with _opened(file, name) as tiff:
        ifd = tiff.pages[page.number]
        try:
            stored = ifd.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise ModuleNotFoundError(
                f"{name} is compressed by {COMPRESSION(ifd.compression).name}, which needs "
                "imagecodecs: pip install 'iddpm[tiff]'"
            ) from None
        axes = ifd.axes
        if stored.shape != tuple(ifd.shape):  # as where its strips hold nothing
            raise UnreadablePictureError(
                f"{name} is damaged (page {page.number + 1} holds {stored.shape} numbers where it "
                f"says {tuple(ifd.shape)})"
            )
    stored = stored if "S" in axes else stored[..., None]
    planes = stored if axes == "SYX" else np.moveaxis(stored, -1, 0)
    planes = planes.astype(page.dtype, copy=False)
    if page.picture:
        planes = _seen(planes, ifd)
    if page.orientation >= 5:
        planes = planes.swapaxes(-1, -2)
    down, right = TURNS[page.orientation]
    return np.ascontiguousarray(planes[:, ::down, ::right])


def read_description(file: Path | bytes, name: str, tag: int = 270) -> str:
    """Return what a TIFF says of itself, in its description or in another tag of text."""
    with _opened(file, name) as tiff:
        text = tiff.pages[0].tags.valueof(tag)
    return text if isinstance(text, str) else ""


def _seen(planes: NDArray[Any], ifd: Any) -> NDArray[Any]:
    """Return a picture of up to 8 bits from 0 to 255, white highest; a palette as RGB."""
    if int(ifd.photometric) == _PALETTE:
        return np.asarray(ifd.colormap[:, planes[0]] >> 8, dtype=np.uint8)
    if planes.dtype.itemsize > 1:
        return planes
    levels = np.arange(256) * (255 / (2**ifd.bitspersample - 1))
    levels = levels.round().clip(0, 255).astype(np.uint8)
    seen: NDArray[Any] = (255 - levels if int(ifd.photometric) == 0 else levels)[planes]
    if planes.shape[0] == 2:  # opacity is no light
        seen[1] = planes[1]
    return seen


TURNS = {1: (1, 1), 2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1),
          8: (-1, 1)}  # fmt: skip
"""Steps down and to the right; from 5 on after rows and columns have changed places."""


def _ifds(tiff: Any) -> Iterator[Any]:
    for number in range(_MOST_PAGES + 1):
        try:
            page = tiff.pages[number]
        except IndexError:
            return
        yield page


def _number(page: Any, tag: int) -> int:
    value = page.tags.valueof(tag)
    return value if isinstance(value, int) else 0


def _facts(page: Any, number: int, name: str) -> TiffPage:
    if page.imagedepth > 1 or page.dtype is None or page.axes not in ("YX", "YXS", "SYX"):
        raise UnsupportedPictureError(
            f"{name} holds pages of axes {page.axes} and sample format {page.sampleformat} of "
            f"{page.bitspersample} bits, which are not supported: save 2-D pages of integers "
            "or floats"
        )
    bits, samples, light = page.bitspersample, page.samplesperpixel, int(page.photometric)
    extra, unsigned = tuple(map(int, page.extrasamples)), page.dtype.kind in "ub"
    colors = samples - len(extra)
    eight = unsigned and isinstance(bits, int) and bits <= 8
    alpha = extra in _ALPHA
    picture = eight and (
        (light in _GRAY and colors == 1 and (not extra or (alpha and bits == 8)))
        or (light == _RGB and colors == 3 and bits == 8 and (not extra or alpha))
        or (light == _PALETTE and samples == 1)
        or (light == _CMYK and samples == 4 and bits == 8)
        or (light in (_YCBCR, _LAB) and samples == 3 and bits == 8)
    )
    picture = picture or (light in _GRAY and samples == 1 and unsigned and bits == 16)
    if not picture and light not in (*_GRAY, _RGB):
        raise UnsupportedPictureError(
            f"{name} holds {samples} samples of {page.dtype} in the colors "
            f"{getattr(page.photometric, 'name', light)}, which are not supported: convert it "
            "to gray or RGB"
        )
    mode = "I;16" if bits == 16 else _MODES.get((light, samples), "")
    orientation = _number(page, 274)
    orientation = orientation if orientation in TURNS else 1
    size = (page.imagelength, page.imagewidth)
    exact = int(page.compression) in (_BY_PILLOW if int(page.predictor) == 1 else _PREDICTED)
    known = not (page.parent.is_bigtiff and page.parent.byteorder == ">")  # not to Pillow
    return TiffPage(
        number,
        size[::-1] if orientation >= 5 else size,
        np.dtype(np.uint8) if page.dtype.kind == "b" else page.dtype.newbyteorder("="),
        samples,
        picture,
        mode if picture else "",
        alpha,
        exact and known,
        orientation,
        light == _RGB,
        f"{samples} sample{'s' * (samples > 1)} of {page.dtype.newbyteorder('=')} per pixel",
    )


def _promised(page: Any, name: str, nbytes: int) -> tuple[int, int]:
    """Return the bytes of samples that a page promises, and the most that a byte can stand for.

    A row of a fax may take a single bit.
    """
    bits = page.bitspersample
    bits = bits * page.samplesperpixel if isinstance(bits, int) else sum(bits)
    bilevel = bits == 1
    width, height = page.imagewidth, page.imagelength
    check_pixels(name, height, width, 8 if bilevel else 1)
    if not height * width:
        raise UnreadablePictureError(f"{name} is damaged (a page has no pixels)")
    ends = [a + n for a, n in zip(page.dataoffsets, page.databytecounts, strict=False) if n]
    if max(ends, default=0) > nbytes:
        raise UnreadablePictureError(
            f"{name} is damaged (truncated: its pixels end at {max(ends)} of {nbytes} bytes)"
        )
    return -(-width * bits // 8) * height, max(_ROOM[1], width) if bilevel else _ROOM[1]


@contextmanager
def _opened(file: Path | bytes, name: str) -> Iterator[Any]:
    """Open a TIFF; whatever tifffile raises on damaged bytes becomes one sentence with a name."""
    from tifffile import TiffFile

    try:
        with (
            io.BytesIO(file) if isinstance(file, bytes) else file.open("rb") as stream,
            TiffFile(stream, name="x.tif") as tiff,
        ):
            yield tiff
    except ModuleNotFoundError as error:
        raise ValueError(str(error)) from None
    except (UnreadablePictureError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except ValueError as error:
        if str(error).startswith(name):
            raise
        raise UnreadablePictureError(f"{name} is damaged ({_sentence(error)})") from error
    except Exception as error:  # tifffile raises TiffFileError, struct.error, zlib.error, ...
        raise UnreadablePictureError(f"{name} is damaged ({_sentence(error)})") from error


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
