"""Cropping and resizing of arrays that are images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from iddpm.data.sources.layouts import PICTURE_CHANNELS
from iddpm.data.sources.picture import fit


def planned_size(
    name: str, shape: tuple[int, ...], bits: int | None, image_size: int | tuple[int, int] | None
) -> tuple[int, int] | None:
    """Return the size that items ``[C, *spatial]`` are to be brought to; None when they have it.

    Raises:
        ValueError: an impossible size, or items that are no uint8 images.
    """
    if image_size is None:
        return None
    spatial = shape[1:]
    size = (image_size,) * len(spatial) if isinstance(image_size, int) else tuple(image_size)
    if size == spatial:
        return None
    if len(spatial) != 2 or bits != 8 or shape[0] not in PICTURE_CHANNELS:
        raise ValueError(
            f"{name} holds items of size {_by(spatial)} but image_size is {image_size}; "
            "only uint8 images of 1, 3 or 4 channels are resized: leave data.image_size out, "
            "or resize the array"
        )
    if len(size) != 2 or min(size) <= 0:
        raise ValueError(
            f"image_size is {image_size}; give a positive number of pixels, or (height, width)"
        )
    return size[0], size[1]


def resized(row: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Return a uint8 image ``[C, H, W]`` with its center cropped and resized."""
    if len(row) == 1:
        return np.asarray(fit(Image.fromarray(row[0]), size))[None]
    image = Image.fromarray(np.ascontiguousarray(row.transpose(1, 2, 0)))
    return np.asarray(fit(image, size)).transpose(2, 0, 1)


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
