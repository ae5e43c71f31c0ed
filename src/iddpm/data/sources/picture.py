"""One picture file to one array: any format Pillow reads, any mode, any size."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from iddpm.data.sources.color_profile import to_srgb
from iddpm.data.sources.extras import ModuleNotInstalledError
from iddpm.data.sources.heif import prepare_heif, read_words
from iddpm.data.sources.jpeg_draft import BOX, ORIENTATION, draft
from iddpm.data.sources.pixel_limit import check_pixels, pixels_of, too_large
from iddpm.data.sources.png_chunks import has_other_facts, png_chunks
from iddpm.data.sources.tiff_pages import TiffPage, is_tiff, read_pages, read_samples
from iddpm.data.sources.unreadable import UnreadablePictureError as UnreadablePictureError
from iddpm.data.sources.unreadable import UnsupportedPictureError

SUFFIXES = frozenset(
    (
        *(".png", ".apng", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm"),
        *(".pgm", ".tga", ".jp2", ".j2k", ".j2c", ".jpx", ".avif", ".heic", ".heif", ".hif"),
    )
)
ANIMATED_SUFFIXES = frozenset((".gif", ".webp", ".tif", ".tiff"))
"""Of files that are taken for clips, even those of a single frame."""
GRAY_MODES = frozenset(("1", "L", "LA", "I", "I;16", "I;16B", "I;16L"))

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs, it raises too
_STEPS = {"L;2": 85, "L;4": 17}
"""From one level of a PNG of few bits to the next, in 8 bits."""
_MODE_OF_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class Header:
    """What a file says of its picture.

    Attributes:
        size: ``(height, width)`` in pixels, as shown.
        mode: Pillow's mode.
        bits: 8 or 16 a sample.
        transparency: whether pixels may be transparent.
    """

    size: tuple[int, int]
    mode: str
    bits: int
    transparency: bool


def read_header(file: Path | bytes, name: str | None = None) -> Header:
    """Return the header of a picture without decoding the pixels.

    Args:
        file: where the picture lies, or what its file holds.
        name: what messages call it; a path speaks for itself.

    Raises:
        UnreadablePictureError: no header Pillow understands.
        UnsupportedPictureError: 16-bit color or 32-bit samples, which would be degraded to 8 bits;
            several frames, of which all but the first would be lost; or too many pixels.
    """
    name = name or str(file)
    if is_tiff(file):
        page = _only_page(file, name)
        return Header(page.size, page.mode, 8 * page.dtype.itemsize, page.transparency)
    with opened_picture(file, name) as image:
        size = upright_size(image)
        mode, raw = image.mode, raw_mode(image)
        transparency = image.has_transparency_data or _empty_parts(image)
        frames = image.format if is_animated(image) else None
    refuse_animated(name, frames)
    return Header(size, mode, _checked_bits(name, mode, raw, transparency), transparency)


def load_picture(
    file: Path | bytes, name: str | None = None, size: tuple[int, int] | None = None
) -> tuple[Image.Image, int]:
    """Return the decoded picture, turned upright by its EXIF orientation, and its bits (8 or 16).

    Where it will be fitted to a ``size`` (height, width) that is much smaller, a JPEG is decoded at
    a fraction of its own, and `fit` knows. Other arguments and errors as in `read_header`.
    """
    name = name or str(file)
    if is_tiff(file):
        page = _only_page(file, name)
        return load_page(file, name, page), 8 * page.dtype.itemsize
    with opened_picture(file, name) as image:
        mode, raw = image.mode, raw_mode(image)
        transparency = image.has_transparency_data
        frames = image.format if is_animated(image) else None
        if frames is None:
            read_words(image, file, name)
            box = None if size is None else draft(image, size)
            image = to_srgb(ImageOps.exif_transpose(_mended(image, raw)), name)
            if box is not None:
                image.info[BOX] = box
    refuse_animated(name, frames)
    return image, _checked_bits(name, mode, raw, transparency)


def _checked_bits(name: str, mode: str, raw: str, transparency: bool) -> int:
    """Return 8 or 16; refuse transparency beside 16 bits, which no array of one channel has."""
    bits = bits_of(name, mode, raw)
    if bits == 16 and transparency:
        raise UnsupportedPictureError(
            f"{name} holds 16-bit gray with a transparent level, which would be lost: save it "
            "without transparency, or with 8 bits"
        )
    return bits


def _mended(image: Image.Image, raw: str) -> Image.Image:
    """Return an opened picture as its format says where Pillow has it otherwise."""
    if image.format == "PNG":
        level, step = image.info.get("transparency"), _STEPS.get(raw)
        if step is not None and isinstance(level, int) and level * step <= 255:
            image.info["transparency"] = level * step  # of few bits, which Pillow spreads out
        codes = next((start for kind, start in png_chunks(image) if kind == b"cICP"), None)
        if codes is not None:
            image.info["cicp"] = codes[:4]
    if _empty_parts(image):
        box = image.dispose_extent  # type: ignore[attr-defined]
        drawn = image.convert("RGBA").crop(box)
        image = Image.new("RGBA", image.size)
        image.paste(drawn, box[:2])
    return image


def _empty_parts(image: Image.Image) -> bool:
    """Tell whether a GIF draws on a part of its screen: the rest is transparent, as in clips."""
    box = getattr(image, "dispose_extent", None)
    return image.format == "GIF" and box not in (None, (0, 0, *image.size))


def _only_page(file: Path | bytes, name: str) -> TiffPage:
    """Return the page of a TIFF that is one picture."""
    pages = read_pages(file, name)
    refuse_animated(name, "TIFF" if len(pages) > 1 else None)
    if not pages[0].picture:
        raise UnsupportedPictureError(
            f"{name} holds {pages[0].what}, which pictures cannot have: put such files into "
            "their own folder, where they are read as numbers"
        )
    return pages[0]


def load_page(file: Path | bytes, name: str, page: TiffPage) -> Image.Image:
    """Return a page of a TIFF that is a picture, or that holds floats, upright."""
    limit = Image.MAX_IMAGE_PIXELS
    small = limit is None or page.size[0] * page.size[1] <= limit  # a fax may be larger
    if small and page.by_pillow:
        try:
            # Not by its path, by which Pillow maps a plain TIFF and garbles it if it lies on its
            # side.
            stream = io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")
            with stream, TiffImageFile(stream) as image:
                image.seek(page.number)
                return to_srgb(ImageOps.exif_transpose(image), name)
        except MemoryError:
            raise
        except Exception as error:
            raise UnreadablePictureError(f"{name} is damaged ({error})") from error
    planes = read_samples(file, name, page)
    if page.dtype.kind == "f":
        return Image.fromarray(planes[0].astype(np.float32))
    mode = "RGB" if page.mode == "P" else page.mode
    height, width = page.size
    return Image.frombytes(mode, (width, height), np.moveaxis(planes, 0, -1).tobytes())


def to_array(
    image: Image.Image, *, channels: int, size: tuple[int, int] | None, bits: int
) -> NDArray[Any]:
    """Return ``[channels, height, width]``, uint8 for 8 bits and uint16 for 16 (gray only).

    Where transparency is not kept it is laid on white, for which most cut-out pictures are drawn;
    dropping it instead would uncover arbitrary colors. ``size`` None keeps the picture's own.
    """
    if bits == 16:
        assert channels == 1
        gray = np.asarray(image).astype(np.uint16)
        if size is not None and gray.shape != size:
            # Through floats: not every Pillow filters 16-bit integers.
            fitted = fit(Image.fromarray(gray.astype(np.float32)), size)
            gray = np.asarray(fitted).clip(0, 65535).round().astype(np.uint16)
        return gray[None]
    if image.has_transparency_data and channels != 4:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    image = image.convert(_MODE_OF_CHANNELS[channels])
    if size is not None:
        image = fit(image, size)
    pixels = np.array(image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Crop the center to the aspect ratio of ``size`` (height, width) and resize to it.

    Lanczos, antialiased when it shrinks: the sharpest of Pillow's filters, and one filter for
    every factor, so that pictures of mixed sizes do not become a set of mixed sharpness.
    """
    height, width = size
    if image.size == (width, height):
        return image
    left, top, right, bottom = image.info.get(BOX, (0, 0, *image.size))
    crop_width = min(right - left, (bottom - top) * width / height)
    crop_height = min(bottom - top, (right - left) * height / width)
    left, top = (left + right - crop_width) / 2, (top + bottom - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return (height, width) of an opened picture as it is to be shown; ask before it is loaded."""
    width, height = image.size
    orientation = 1
    if image.format != "PNG" or "exif" in image.info or has_other_facts(image):
        # Pillow decodes a PNG to look for an orientation elsewhere than in a leading eXIf.
        orientation = image.getexif().get(ORIENTATION, 1)
    return (width, height) if orientation >= 5 else (height, width)


def is_animated(image: Image.Image) -> bool:
    """Tell whether an opened file holds several frames or pages; ask before pixels are loaded."""
    # A JPEG of several pictures (MPO) is a still one, with a preview or a depth map beside it.
    kept = image.format in ("GIF", "WEBP", "TIFF", "PNG", "AVIF")
    return kept and bool(getattr(image, "is_animated", False))


def raw_mode(image: Image.Image) -> str:
    """Return how the samples of an opened picture are stored, such as ``RGB;16B``.

    Pillow's mode hides 16 bits of color. Call it before the pixels are loaded, which drops
    the decoder's arguments.
    """
    if not image.tile:  # type: ignore[attr-defined]
        return ""
    codec, _, _, args = image.tile[0]  # type: ignore[attr-defined]
    if codec.startswith("ppm"):
        return ";16" if int(args[1]) > 255 else ""
    raw = args[0] if isinstance(args, tuple) else args
    return raw if isinstance(raw, str) else ""


def bits_of(name: str, mode: str, raw: str) -> int:
    """Return 8 or 16 for a picture of a mode; refuse what Pillow would degrade.

    Raises:
        UnsupportedPictureError: 16-bit color, signed numbers, or 32 bits a sample.
    """
    # "BGR;16" is a BMP of 5 + 6 + 5 bits a pixel.
    deep = ";16" in raw and not raw.startswith("BGR")
    if mode.startswith("I;16") or (mode == "I" and deep and not raw.endswith("S")):
        return 16
    if mode in ("I", "F"):
        what = "signed 16-bit" if deep else f"32-bit samples (mode {mode})"
        raise UnsupportedPictureError(
            f"{name} holds {what} of unknown range; convert it to 8-bit or "
            "16-bit gray, or store the set as a float .npy array in [-1, 1]"
        )
    if deep:
        raise UnsupportedPictureError(
            f"{name} holds 16-bit color, and a picture has 8 bits: put such files into their own "
            "folder, where they are read as numbers, or convert it to 8-bit color"
        )
    return 8


def refuse_animated(name: str, form: str | None) -> None:
    """Refuse several frames where one is read; ``form`` is Pillow's name of the format, or None."""
    if form == "AVIF":
        raise UnsupportedPictureError(
            f"{name} is an animated AVIF, which is not supported: save it as WebP or MP4, or "
            "its frames as a folder of pictures with -s data.layout=frames"
        )
    if form is not None:
        raise UnsupportedPictureError(
            f"{name} holds several frames, and a picture has one: put animations and stacks "
            "into their own folder, where they are read as clips, or store frames as folders "
            "of pictures and use -s data.layout=frames"
        )


@contextmanager
def opened_picture(file: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises on damaged bytes becomes one sentence with a name."""
    try:
        # Through a stream: by its path Pillow maps a plain TIFF, and garbles it if it lies on its
        # side.
        stream = io.BytesIO(file) if isinstance(file, bytes) else file.open("rb")
        with stream:
            prepare_heif(stream.read(64), name)
            stream.seek(0)
            with Image.open(stream) as image:
                check_pixels(name, image.height, image.width)
                yield image
    except Image.DecompressionBombError as error:  # of more than twice the limit
        pixels = pixels_of(error)
        raise too_large(name, f"{pixels or 'too many'} pixels", pixels) from error
    except (
        UnreadablePictureError,
        ModuleNotInstalledError,
        FileNotFoundError,
        PermissionError,
        MemoryError,
    ):
        raise
    except UnidentifiedImageError as error:
        empty = not file if isinstance(file, bytes) else file.stat().st_size == 0
        what = "is empty" if empty else "is not a picture Pillow can read"
        raise UnreadablePictureError(f"{name} {what}") from error
    except NotImplementedError as error:
        raise UnsupportedPictureError(
            f"{name} is of a kind that Pillow does not support ({error})"
        ) from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
        reason = " ".join(str(error).split())  # some of libheif's end in an empty line
        raise UnreadablePictureError(f"{name} is damaged ({reason})") from error
