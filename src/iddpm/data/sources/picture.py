"""One picture file to one array: any format Pillow reads, any mode, any size."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
DEEP_SUFFIXES = frozenset((".png", ".tif", ".tiff", ".ppm", ".pgm"))  # may hold 16 bits a sample
GRAY_MODES = frozenset(("1", "L", "LA", "I", "I;16", "I;16B", "I;16L"))

_EXIF_ORIENTATION = 0x0112
_MODE_OF_CHANNELS = {1: "L", 3: "RGB", 4: "RGBA"}


class UnreadablePictureError(ValueError):
    """The file is damaged, or is no picture at all."""


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
        ValueError: 16-bit colour or 32-bit samples, which would be degraded to 8 bits.
    """
    name = name or str(file)
    with _opened(file, name) as image:
        width, height = image.size
        # A PNG says so in its info or, rarely, after the pixels: looking there would decode it.
        if (image.format != "PNG" or "exif" in image.info) and (
            image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
        ):
            width, height = height, width
        mode, deep, transparency = image.mode, _is_deep(image), image.has_transparency_data
    return Header((height, width), mode, _bits(name, mode, deep), transparency)


def load_picture(file: Path | bytes, name: str | None = None) -> tuple[Image.Image, int]:
    """Return the decoded picture, turned upright by its EXIF orientation, and its bits (8 or 16).

    Of an animation, the first frame. Arguments and errors as in `read_header`.
    """
    name = name or str(file)
    with _opened(file, name) as image:
        mode, deep = image.mode, _is_deep(image)
        upright = ImageOps.exif_transpose(image)
    return upright, _bits(name, mode, deep)


def to_array(
    image: Image.Image, *, channels: int, size: tuple[int, int] | None, bits: int
) -> NDArray[Any]:
    """Return ``[channels, height, width]``, uint8 for 8 bits and uint16 for 16 (gray only).

    Where transparency is not kept it is laid on white, for which most cut-out pictures are drawn;
    dropping it instead would uncover arbitrary colours. ``size`` None keeps the picture's own.
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
    """Crop the centre to the aspect ratio of ``size`` (height, width) and resize to it.

    Lanczos, antialiased when it shrinks: the sharpest of Pillow's filters, and one filter for
    every factor, so that pictures of mixed sizes do not become a set of mixed sharpness.
    """
    height, width = size
    if image.size == (width, height):
        return image
    crop_width = min(image.width, image.height * width / height)
    crop_height = min(image.height, image.width * height / width)
    left, top = (image.width - crop_width) / 2, (image.height - crop_height) / 2
    box = (left, top, left + crop_width, top + crop_height)
    return image.resize((width, height), Image.Resampling.LANCZOS, box=box)


def _is_deep(image: Image.Image) -> bool:
    """Tell whether the file stores 16 bits a sample; Pillow's mode hides it for colour.

    Must be asked before the pixels are loaded: that is when the decoder's arguments are dropped.
    """
    if not image.tile:  # type: ignore[attr-defined]
        return False
    codec, _, _, args = image.tile[0]  # type: ignore[attr-defined]
    if codec.startswith("ppm"):
        return int(args[1]) > 255
    raw_mode = args[0] if isinstance(args, tuple) else args
    # "BGR;16" is a BMP of 5 + 6 + 5 bits a pixel.
    return isinstance(raw_mode, str) and ";16" in raw_mode and not raw_mode.startswith("BGR")


def _bits(name: str, mode: str, deep: bool) -> int:
    if mode.startswith("I;16") or (mode == "I" and deep):
        return 16
    if deep:
        raise ValueError(
            f"{name} holds 16-bit colour, which Pillow would cut to 8 bits; convert it to 8-bit "
            "colour or 16-bit gray, or store the set as a uint16 .npy array"
        )
    if mode in ("I", "F"):
        raise ValueError(
            f"{name} holds 32-bit samples (mode {mode}) of unknown range; convert it to 8-bit or "
            "16-bit gray, or store the set as a float .npy array in [-1, 1]"
        )
    return 8


def _refuse_bomb(name: str, image: Image.Image) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise UnreadablePictureError(_bomb_message(name, f"{image.width}x{image.height}", limit))


def _bomb_message(name: str, pixels: str, limit: int | None) -> str:
    return (
        f"{name} has {pixels} pixels, more than the {limit} that Pillow takes for safe; "
        "shrink the picture first"
    )


@contextmanager
def _opened(file: Path | bytes, name: str) -> Iterator[Image.Image]:
    """Open a picture; whatever Pillow raises on damaged bytes becomes one sentence with a name."""
    try:
        with Image.open(io.BytesIO(file) if isinstance(file, bytes) else file) as image:
            _refuse_bomb(name, image)
            yield image
    except Image.DecompressionBombError as error:
        message = _bomb_message(name, "too many", Image.MAX_IMAGE_PIXELS)
        raise UnreadablePictureError(message) from error
    except (UnreadablePictureError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        empty = not file if isinstance(file, bytes) else file.stat().st_size == 0
        what = "is empty" if empty else "is not a picture Pillow can read"
        raise UnreadablePictureError(f"{name} {what}") from error
    except Exception as error:  # Pillow's plugins raise OSError, SyntaxError, struct.error, ...
        raise UnreadablePictureError(f"{name} is damaged ({error})") from error
