"""What the axes and the numbers of an array mean."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.values import finite_extent

LAYOUTS = ("NL", "NCL", "NLC", "NHW", "NCHW", "NHWC", "NDHW", "NCDHW", "NDHWC")
PICTURE_CHANNELS = (1, 3, 4)


def to_channels_first(rows: NDArray[Any], layout: str) -> NDArray[Any]:
    """Return ``rows`` of a layout of `LAYOUTS` as ``[N, C, *spatial]``, a view."""
    if "C" not in layout:
        return rows[:, None]
    return np.moveaxis(rows, layout.index("C"), 1)


def bits_of(name: str, array: NDArray[Any]) -> int | None:
    """Return 8 or 16 for unsigned integers, None for floats; refuse the rest."""
    if array.dtype == np.uint8:
        return 8
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return 16
    if array.dtype.kind == "f":
        return None
    advice = {
        "b": "save x.astype(numpy.uint8) * 255",
        "i": "shift and scale it to uint8 (0 to 255) or uint16 (0 to 65535)",
        "u": "scale it to uint8 (0 to 255) or uint16 (0 to 65535)",
    }.get(array.dtype.kind, "save uint8, uint16 or floats in [-1, 1]")
    raise ValueError(f"{name} holds {array.dtype}, which has no known range of values; {advice}")


def guess_layout(name: str, array: NDArray[Any]) -> str:
    """Return the one layout that the shape and dtype leave, or refuse."""
    shape = array.shape
    possible = [layout for layout in LAYOUTS if len(layout) == len(shape)]
    if array.ndim == 2:
        return "NL"
    if array.ndim == 3:
        first_is_one, last_is_one = shape[1] == 1, shape[2] == 1
        if first_is_one != last_is_one:
            return "NCL" if first_is_one else "NLC"
        if array.dtype == np.uint8 and min(shape[1:]) > max(PICTURE_CHANNELS):
            return "NHW"
    if array.ndim in (4, 5):
        first, last = shape[1] in PICTURE_CHANNELS, shape[-1] in PICTURE_CHANNELS
        spatial = "HW" if array.ndim == 4 else "DHW"
        if first != last:
            return f"NC{spatial}" if first else f"N{spatial}C"
    if possible:
        raise ValueError(
            f"{name} has shape {shape}, which may mean {' or '.join(possible)}; set -s "
            f"data.layout={possible[0]} or the other"
        )
    raise ValueError(
        f"{name} has shape {shape}; the layouts that work are {', '.join(LAYOUTS)} "
        "(N items, C channels)"
    )


def check_layout(name: str, array: NDArray[Any], layout: str) -> None:
    """Refuse a layout that is none or does not go with the shape."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; it must be one of {', '.join(LAYOUTS)}")
    if len(layout) != array.ndim:
        raise ValueError(
            f"{name} has shape {array.shape}, but {layout} has {len(layout)} axes: N items, C "
            "channels"
        )
    if 0 in array.shape:
        raise ValueError(f"{name} has shape {array.shape}, which holds no data")


def check_rows(name: str, rows: NDArray[Any], numbers: Sequence[int] | NDArray[np.int64]) -> None:
    """Refuse floats ``[N, ...]`` that are not finite or not in [-1, 1]; numbers are the items'."""
    lowest, highest = finite_extent(name, rows, numbers)
    if lowest < -1.0 or highest > 1.0:
        raise ValueError(
            f"{name} holds floats in [{lowest:.6g}, {highest:.6g}]; scale them to [-1, 1], or save "
            "integers as uint8 or uint16"
        )
