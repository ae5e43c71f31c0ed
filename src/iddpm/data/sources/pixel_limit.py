"""How many pixels a picture may have: a small file can promise more than any memory holds."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from iddpm.data.sources.unreadable import UnsupportedPictureError

_INHERITED = "IDDPM_MAX_PIXELS"
"""Tells processes that are spawned to read ahead."""


def limit_pixels(count: int | None) -> None:
    """Allow pictures of ``count`` pixels in this process; None leaves the limit unchanged.

    The limit is Pillow's: 89 million at first.
    """
    if count is not None:
        Image.MAX_IMAGE_PIXELS = count
        os.environ[_INHERITED] = str(count)


@contextmanager
def any_size() -> Iterator[None]:
    """Lift the limit while a picture of ours is made: Pillow checks it for crops and texts, too."""
    kept, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = kept


if os.environ.get(_INHERITED, "").isdecimal():
    limit_pixels(int(os.environ[_INHERITED]))


def check_pixels(name: str, height: int, width: int, factor: int = 1) -> None:
    """Refuse a picture of more pixels than the limit times ``factor``.

    Raises:
        UnsupportedPictureError: names the setting that allows them.
    """
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > limit * factor:
        raise too_large(name, f"{width}x{height} pixels", -(-height * width // factor))


def too_large(name: str, what: str, wanted: int | None = None) -> UnsupportedPictureError:
    """Return the error for a picture; ``wanted`` is the limit that allows it."""
    return UnsupportedPictureError(
        f"{name} has {what}, more than the limit of {Image.MAX_IMAGE_PIXELS}: shrink it, or "
        f"raise the limit with -s data.max_pixels={wanted or 'NUMBER'}"
    )


def pixels_of(error: Image.DecompressionBombError) -> int | None:
    """Return how many pixels Pillow refused."""
    found = re.search(r"\((\d+) pixels\)", str(error))
    return int(found[1]) if found else None
