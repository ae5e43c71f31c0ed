"""JPEG files decoded at a half, a quarter or an eighth of their size, where less is wanted.

The decoder leaves out high frequencies instead of computing them, which takes a fraction of the
time. What is filtered down from there differs from what is filtered down from all pixels by a fifth
of a level of 256 on average; see ``benchmarks/data.py``.
"""

from PIL import Image

ORIENTATION = 0x0112
"""Tag of EXIF."""
BOX = "iddpm_box"
"""Key of ``info``: left, top, right and bottom of the picture among the decoded pixels. Sizes that
a fraction does not divide are rounded up, which would shift it by as much as half a pixel."""
MARGIN = 4
"""Decoded pixels for each that is wanted, at the least, along either axis."""

Box = tuple[float, float, float, float]


def draft(image: Image.Image, size: tuple[int, int]) -> Box | None:
    """Let an opened JPEG be decoded at a fraction that leaves enough pixels for a size.

    Args:
        image: opened, and not loaded yet.
        size: (height, width) to which it will be fitted once it is upright.

    Returns:
        The box of the upright picture among its pixels; None where all are decoded.
    """
    if image.format not in ("JPEG", "MPO"):
        return None
    orientation = image.getexif().get(ORIENTATION, 1)
    height, width = size[::-1] if orientation in (5, 6, 7, 8) else size
    scale = min(image.width / width, image.height / height) / MARGIN
    if scale < 2:
        return None
    drafted = image.draft(None, (int(image.width / scale), int(image.height / scale)))
    if drafted is None:
        return None
    return _upright(drafted[1], image.size, orientation)


def _upright(box: tuple[float, ...], size: tuple[int, int], orientation: int) -> Box:
    """Return where a box of a picture lies once the picture is turned as EXIF says."""
    left, top, right, bottom = box
    width, height = size
    if orientation in (2, 3, 7, 8):  # mirrored left to right, or half a turn, before all else
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        top, bottom = height - bottom, height - top
    if orientation >= 5:  # then rows become columns
        return top, left, bottom, right
    return left, top, right, bottom
