"""One item from a file, such as a picture to be edited, and a mask for it."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.data.levels import to_model_range
from iddpm.data.sources.npy import map_npy
from iddpm.data.sources.picture import SUFFIXES, fit, load_picture, to_array
from iddpm.data.sources.rasters import fitted, holds_numbers, read_raster
from iddpm.data.values import Values, natural_values, range_hint

_DEPTHS = {np.dtype(np.uint8): 8, np.dtype(np.uint16): 16}


class Item(NamedTuple):
    """An item and how large its picture was.

    Attributes:
        x: [C, *spatial] in [-1, 1].
        picture_size: (height, width) before it was cropped and resized; None for arrays.
    """

    x: Tensor
    picture_size: tuple[int, int] | None


def read_item(
    path: Path, shape: tuple[int, ...], bits: int | None, values: Values | None = None
) -> Item:
    """Read an item of a model's shape from a picture, a .npy array or a TIFF of numbers.

    A picture is converted to the channels, its center cropped to the aspect ratio and resized; a
    TIFF of numbers is cropped and resized. An array has the shape itself, or without the axis of a
    single channel, or with channels last. Floats lie in [-1, 1], uint8 and uint16 span that range,
    unless the model's data has another.

    Args:
        path: the file.
        shape: (C, *spatial) of the model's data.
        bits: depth of the model's data; None for floats.
        values: the numbers of the model's data, which the file then holds.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind, shape or range, or of more bits than the model keeps.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    own = values if values is not None and not values.natural else None
    picture = path.suffix.lower() in SUFFIXES
    if path.suffix.lower() == ".npy":
        stored, size = _arranged(path, np.array(map_npy(path)), shape), None
    elif picture and len(shape) > 2 and holds_numbers(path):
        stored, size = _read_fitted(path, shape)
    elif picture and len(shape) == 3 and shape[0] in (1, 3, 4):
        image, depth = load_picture(path)
        if own is None:
            _refuse_deeper(path, depth, bits)
        size = (image.height, image.width)
        if depth == 16 and shape[0] != 1:
            raise ValueError(f"{path} is 16-bit gray, and the model has {shape[0]} channels")
        stored = to_array(image, channels=shape[0], size=(shape[1], shape[2]), bits=depth)
    else:
        raise ValueError(
            f"{path} cannot be read as an item of shape {shape}: give a .npy array"
            + (" or a picture" if len(shape) == 3 and shape[0] in (1, 3, 4) else "")
            + (" or a numeric TIFF" if len(shape) > 2 else "")
        )
    return Item(_natural(path, stored, bits) if own is None else _by(own, path, stored), size)


def _by(values: Values, path: Path, stored: NDArray[Any]) -> Tensor:
    """Return numbers in [-1, 1] by the range of the model's data."""
    if stored.dtype != values.dtype and (values.bits is not None or stored.dtype.kind != "f"):
        raise ValueError(
            f"{path} holds {stored.dtype} numbers, and the model's data {values.dtype}"
        )
    levels = values.read(stored[None], str(path), [0])[0]
    return to_model_range(levels, values.bits)


def _natural(path: Path, stored: NDArray[Any], bits: int | None) -> Tensor:
    """Return numbers in [-1, 1] by their dtype."""
    depth = None if stored.dtype.kind == "f" else _DEPTHS.get(stored.dtype)
    if depth is None and stored.dtype.kind != "f":
        raise ValueError(
            f"{path} holds {stored.dtype} numbers: save floats in [-1, 1], uint8 or uint16"
        )
    _refuse_deeper(path, depth, bits)
    x = to_model_range(stored, depth)
    if not bool((x.abs() <= 1).all()):  # false for NaN
        raise ValueError(f"{path} holds values outside [-1, 1], the model's range")
    hint = range_hint(natural_values(depth), float(stored.min()), float(stored.max()))
    if depth is None and hint is not None:
        way = ", save 2 * x - 1" if "half of" in hint else "; scale it like the model's data"
        warnings.warn(f"{path} holds {hint}{way}", stacklevel=3)
    return x


def _read_fitted(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[Any], tuple[int, int]]:
    """Return the numbers of a TIFF, cropped and resized as a picture is, and its first size."""
    stored = read_raster(path)
    if (stored.shape[:-2], stored.ndim) != (shape[:-2], len(shape)):
        raise ValueError(
            f"{path} holds numbers of shape {stored.shape} and the model's items have shape "
            f"{shape}: give a TIFF with as many samples per pixel and as many pages"
        )
    size = (stored.shape[-2], stored.shape[-1])
    return stored if size == shape[-2:] else fitted(stored, (shape[-2], shape[-1])), size


def read_mask(
    path: Path, spatial: tuple[int, ...], picture_size: tuple[int, int] | None = None
) -> Tensor:
    """Read which positions to fill in, bool [1, *spatial]: white or 1 in the file.

    Args:
        path: a picture, or a .npy array of numbers from 0 to 1 or from 0 to 255.
        spatial: size of the model's data.
        picture_size: size of the picture that the mask belongs to; one of this size is cropped
            and resized as the picture was.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a mask of another shape, with transparent parts, or one that marks nothing.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix.lower() == ".npy":
        values = np.squeeze(np.array(map_npy(path), dtype=np.float64))
        wanted = tuple(n for n in spatial if n != 1)
    elif len(spatial) == 2 and path.suffix.lower() in SUFFIXES:
        image = load_picture(path)[0]
        if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
            raise ValueError(
                f"the mask {path} has an alpha channel, which could mark either region: save a "
                "gray picture that is white where to fill in"
            )
        image = image.convert("L")
        if picture_size == (image.height, image.width):
            image = fit(image, (spatial[0], spatial[1]))
        values, wanted = np.asarray(image, dtype=np.float64), spatial
    else:
        raise ValueError(f"{path} cannot be read as a mask of shape {spatial}: give a .npy array")
    if values.shape != wanted:
        known = f" or {picture_size}, the picture's" if picture_size else ""
        raise ValueError(
            f"the mask {path} has shape {values.shape} and the model's data {spatial}: give "
            f"a mask of that shape{known}"
        )
    high = 255 if values.max(initial=0) > 1 else 1
    if not bool(((values >= 0) & (values <= high)).all()):
        raise ValueError(f"the mask {path} holds values outside 0 to 1 and 0 to 255")
    mask = torch.from_numpy(values > high / 2).reshape(1, *spatial)
    if not bool(mask.any()):
        raise ValueError(f"the mask {path} marks no region: the region to fill in is white, or 1")
    return mask


def _refuse_deeper(path: Path, depth: int | None, bits: int | None) -> None:
    if depth is not None and bits is not None and depth > bits:
        raise ValueError(
            f"{path} holds {depth} bits per sample and the model was trained on {bits}: "
            f"convert it to {bits} bits first"
        )


def _arranged(path: Path, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return the array with its channels first."""
    channels, *spatial = shape
    if values.shape == shape:
        return values
    if values.shape == (*spatial, channels):
        return np.ascontiguousarray(np.moveaxis(values, -1, 0))
    if channels == 1 and values.shape == tuple(spatial):
        return values[None]
    raise ValueError(
        f"{path} has shape {values.shape} and the model's items have shape {shape}: save one item "
        "of that shape"
    )
