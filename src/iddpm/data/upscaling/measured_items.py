"""Measurements by a matrix, and items in memory, as files to restore."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from iddpm.data.sources.npy import map_npy
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.image_files import fits_picture


class Measurements(LowRes):
    """A .npy array of measurements, [M] of one item or [N, M]; restored items become such a file.

    Items are written in the numbers of the model's data, [N, C, *spatial], without the axes of one
    item and of one channel.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another file, or an array of other axes or of no real numbers.
    """

    output = ".npy"

    def __init__(self, path: Path, target: Target, count: int) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        if path.suffix.lower() != ".npy":
            raise ValueError(
                f"{path} cannot be read as measurements of a matrix: give a .npy array"
            )
        array = map_npy(path)
        if array.ndim not in (1, 2) or array.shape[-1] != count or not len(array):
            raise ValueError(
                f"{path} has shape {array.shape}, and the operator has {count} rows: give {count} "
                f"measurements, or N x {count} for N items"
            )
        if array.dtype.kind not in "iuf":
            raise ValueError(f"{path} holds {array.dtype}: give real numbers")
        self.path, self._target = path, target
        self._rows = array.reshape(-1, count)
        self.count, self.shape = len(self._rows), (count,)

    def read(self, start: int, stop: int) -> Tensor:
        """Return measurements, [N, M], as if they were numbers of the data."""
        rows = np.asarray(self._rows[start:stop], dtype=np.float64)
        return self._target.to_model(self.path, rows)

    def write(self, x: Tensor, path: Path) -> None:
        """Write the items."""
        stored = self._target.values.restore(x)
        stored = stored[:, 0] if stored.shape[1] == 1 else stored
        np.save(path, stored[0] if self.count == 1 else stored)


class StoredItem(LowRes):
    """One item of a run's data, [C, *spatial] in [-1, 1]: a PNG where it is a picture, or a .npy.

    Attributes:
        name: what messages call it.
    """

    count = 1

    def __init__(self, x: Tensor, name: str, target: Target) -> None:
        self.path, self._target, self._x = Path(name), target, x[None]
        self.shape = tuple(x.shape)
        self._picture = len(x.shape) == 3 and len(x) in (1, 3, 4)
        self._picture = self._picture and fits_picture(target.values, len(x))
        self.output = ".png" if self._picture else ".npy"

    def read(self, start: int, stop: int) -> Tensor:
        """Return the item."""
        return self._x[start:stop]

    def write(self, x: Tensor, path: Path) -> None:
        """Write another one."""
        stored = self._target.values.restore(x[0])
        if not self._picture:
            np.save(path, stored[0] if len(stored) == 1 else stored)
            return
        pixels = stored.transpose(1, 2, 0)
        Image.fromarray(pixels[..., 0] if len(stored) == 1 else pixels).save(path, "PNG")
