"""Arrays to upscale."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from iddpm.data.sources.arrays import LABEL_KEYS, data_key
from iddpm.data.sources.npy import map_npy, read_npz
from iddpm.data.upscaling.low_res import LowRes, Target


class ArrayFile(LowRes):
    """A .npy or .npz file: one item, or items along the first axis.

    The upscaled file has its dtype and its order of axes; whatever else a .npz holds is copied.

    Raises:
        ValueError: a damaged file, or axes or numbers that are not the model's.
    """

    def __init__(self, path: Path, target: Target) -> None:
        self.path, self._target, self.output = path, target, path.suffix.lower()
        self._label_key: str | None = None
        self._key, self._others = "", dict[str, NDArray[Any]]()
        if self.output == ".npy":
            array = map_npy(path)
        else:
            members = read_npz(path)
            label_key = next((key for key in LABEL_KEYS if key in members), None)
            self._key = data_key(path, members, label_key)
            array = members.pop(self._key)
            self._others = members
            self._label_key = label_key
            if label_key is not None:
                names = [str(name) for name in members.get("class_names", [])]
                self.classes = _classes(path, members[label_key], names)
        self._dtype = array.dtype
        target.check_numbers(path, array.dtype.newbyteorder("="))
        self._axis = _channel_axis(path, array, target)
        self._alone = array.ndim - (self._axis is not None) == target.dims
        if self._alone:
            array = array[None]
            self._axis = None if self._axis is None else self._axis + 1
        self._items = array[:, None] if self._axis is None else np.moveaxis(array, self._axis, 1)
        if 0 in self._items.shape:
            raise ValueError(f"{path} has shape {array.shape}, which holds no data")
        self.count, self.shape = len(self._items), self._items.shape[1:]
        if self.classes is not None and len(self.classes) != self.count:
            raise ValueError(f"{path} holds {len(self.classes)} labels for {self.count} items")

    def read(self, start: int, stop: int) -> Tensor:
        """Return items."""
        return self._target.to_model(self.path, np.asarray(self._items[start:stop]))

    def write(self, x: Tensor, path: Path) -> None:
        """Write an array of the same axes and dtype."""
        stored = self._target.values.restore(x).astype(self._dtype)
        stored = stored[:, 0] if self._axis is None else np.moveaxis(stored, 1, self._axis)
        stored = np.ascontiguousarray(stored[0] if self._alone else stored)
        if self.output == ".npy":
            np.save(path, stored)
        else:
            members = {self._key: stored, **self._others}
            if self._label_key is not None and self.drawn_as is not None:
                kept = self._others[self._label_key]
                members[self._label_key] = np.full_like(kept, self.drawn_as)
            np.savez(path, **members)  # type: ignore[arg-type]


def _classes(path: Path, labels: NDArray[Any], names: list[str]) -> list[int | str]:
    """Return the class of each item as a name where the file names its classes."""
    if labels.dtype.kind not in "iub":
        raise ValueError(f"{path} holds labels of {labels.dtype}: give integers, -1 for none")
    numbers = [int(k) for k in labels.reshape(-1)]
    return [names[k] if 0 <= k < len(names) else k for k in numbers]


def _channel_axis(path: Path, array: NDArray[Any], target: Target) -> int | None:
    """Return the axis of the channels; None where there is none, of data of one channel."""
    dims, channels, shape = target.dims, target.channels, array.shape
    if channels == 1 and array.ndim == dims:
        return None
    possible: list[int | None] = []
    if array.ndim in (dims + 1, dims + 2):  # of one item the first or last axis, of several too
        first = array.ndim - dims - 1
        possible = [axis for axis in (first, array.ndim - 1) if shape[axis] == channels]
    if array.ndim == dims + 1 and channels == 1 and len(possible) != 1:
        possible = [None]  # items without an axis for their only channel
    if len(possible) == 1:
        return possible[0]
    axes = ", ".join(("N items", f"{channels} channels", f"{dims} spatial"))
    raise ValueError(
        f"{path} has shape {shape}, and the model takes data of {channels} channels with "
        f"{dims} spatial axes: give axes in the order {axes}"
        + ("; which axis has the channels is ambiguous" if possible else "")
    )
