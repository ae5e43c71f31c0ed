"""Random changes of one item, each a function of the item, a generator and the item's depth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Augmentation = Callable[[NDArray[Any], np.random.Generator, int | None], NDArray[Any]]
"""Called with an item, a generator, and the bits of its integers or None."""

SMALLEST_CROP = 0.8
_INTERPOLATION = {1: "linear", 2: "bicubic", 3: "trilinear"}


@dataclass(frozen=True)
class Flip:
    """Mirror ``[C, *spatial]`` half of the time, along the axis from left to right.

    Attributes:
        axis: among the spatial axes, from 0 on, or from -1 on backwards: in pictures the last.
    """

    axis: int = -1

    def __call__(
        self, x: NDArray[Any], generator: np.random.Generator, bits: int | None = None
    ) -> NDArray[Any]:
        """Return the item or its mirror image."""
        axis = self.axis + 1 if self.axis >= 0 else self.axis
        return np.flip(x, axis) if generator.random() < 0.5 else x


def random_crop(
    x: NDArray[Any], generator: np.random.Generator, bits: int | None = None
) -> NDArray[Any]:
    """Cut a box of 0.8 to 1 of each side out of ``[C, *spatial]`` and enlarge it to the old shape.

    All axes are cut by one factor, so proportions stay. Integers are rounded and clamped to their
    ``bits``, by default those of their type; floats to [-1, 1].
    """
    spatial = x.shape[1:]
    factor = generator.uniform(SMALLEST_CROP, 1.0)
    sizes = [max(1, round(size * factor)) for size in spatial]
    starts = [
        int(generator.integers(old - new + 1)) for old, new in zip(spatial, sizes, strict=True)
    ]
    box = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    if tuple(sizes) == spatial:
        return x
    cut = torch.from_numpy(x[(slice(None), *box)].astype(np.float32))
    # It only ever enlarges, where antialiasing would change nothing.
    enlarged = F.interpolate(cut[None], size=spatial, mode=_INTERPOLATION[len(spatial)])[0].numpy()
    if x.dtype.kind == "f":
        return enlarged.clip(-1.0, 1.0).astype(x.dtype)
    highest = np.iinfo(x.dtype).max if bits is None else 2**bits - 1
    return enlarged.round().clip(0, highest).astype(x.dtype)
