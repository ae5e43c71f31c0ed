"""The interface of files to upscale or restore, and their requirements."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.data.file_format import Form
from iddpm.data.levels import to_model_range
from iddpm.data.values import Values, finite_extent


@dataclass(frozen=True)
class Target:
    """What a model takes and makes.

    Attributes:
        channels: of its data.
        scale: upscaling factor of each axis.
        form: what its data was on disk, with the values.
        labels: the rule by which its data had labels.
        bounded: whether files hold the model's numbers within their range; measurements, which
            have noise, may be floats of any size instead.
        corners: whether positions of a file are the first of those that become of each, and not
            their middle.
    """

    channels: int
    scale: tuple[int, ...]
    form: Form
    labels: str = "auto"
    bounded: bool = True
    corners: bool = False

    @property
    def dims(self) -> int:
        """Number of spatial axes."""
        return len(self.scale)

    @property
    def values(self) -> Values:
        """The numbers of the model's data."""
        assert self.form.values is not None
        return self.form.values

    def check(self, path: Path, channels: int, what: str) -> None:
        """Refuse a file of other channels."""
        if channels != self.channels:
            raise ValueError(
                f"{path} is {what}, {_counted(channels)}, and the model takes "
                f"{_counted(self.channels)}: convert it first"
            )

    def check_numbers(self, path: Path, dtype: np.dtype[Any]) -> None:
        """Refuse numbers that the model's data has not: other integers, or no integers."""
        floats = dtype.kind == "f"
        if floats and not self.bounded:
            return
        if floats != (self.values.bits is None) or not (floats or dtype == self.values.dtype):
            known = "floats" if self.values.bits is None else f"{self.values.dtype} numbers"
            raise ValueError(
                f"{path} holds {'floats' if floats else f'{dtype} numbers'}, and the model was "
                f"trained on {known}: convert it first"
            )

    def spread(self, x: Tensor) -> NDArray[np.float32]:
        """Return differences in units of [-1, 1] as those of the stored numbers, float32."""
        half = (self.values.high - self.values.low) / 2
        return (half * x.double()).to(torch.float32).numpy()

    def to_model(self, path: Path, stored: NDArray[Any]) -> Tensor:
        """Return items [N, C, *spatial] of the model's numbers as float32 in [-1, 1].

        Raises:
            ValueError: numbers outside the range that the model knows.
        """
        lowest, highest = finite_extent(str(path), stored, range(len(stored)))
        if not self.bounded and stored.dtype.kind == "f":
            low, high = self.values.low, self.values.high
            scaled = (stored.astype(np.float64) - low) * (2 / (high - low)) - 1
            return torch.from_numpy(scaled.astype(np.float32))
        if not self.values.hold(lowest, highest):
            raise ValueError(
                f"{path} holds numbers in [{lowest:.6g}, {highest:.6g}], and the model was "
                f"trained on [{self.values.low:.6g}, {self.values.high:.6g}]: convert them to "
                "that range"
            )
        levels = self.values.read(stored, str(path), range(len(stored)))
        return to_model_range(np.require(levels, requirements="W"), self.values.bits)


class LowRes(ABC):
    """A file, or the items of one file, of one size.

    Attributes:
        path: where it lies.
        output: suffix of the upscaled file.
        count: number of items.
        shape: (C, *spatial) of an item.
        classes: the class of each item, by name or number, -1 for none; None of files without.
    """

    path: Path
    output: str
    count: int
    shape: tuple[int, ...]
    classes: list[int | str] | None = None
    drawn_as: int | None = None
    """The number of the class that all items were drawn as instead, which is then written."""
    drawn_name: str = ""

    _target: Target

    @abstractmethod
    def read(self, start: int, stop: int) -> Tensor:
        """Return items, [N, C, *spatial] in [-1, 1]."""

    @abstractmethod
    def write(self, x: Tensor, path: Path) -> None:
        """Write all upscaled items as a file of the same kind."""

    def spread_name(self, name: str) -> str:
        """Return the name of the map of the spread beside an upscaled file."""
        return f"{name.removesuffix(self.output)}.std.npy"

    def write_spread(self, spread: Tensor, path: Path) -> None:
        """Write the spread of all items, [N, C, *spatial] where the data spans -1 to 1.

        In float32, in the units of the file's numbers; one item has no axis of items, and one
        channel no axis of channels.
        """
        numbers = self._target.spread(spread)
        numbers = numbers[:, 0] if numbers.shape[1] == 1 else numbers
        np.save(path, numbers[0] if self.count == 1 else numbers)


def _counted(channels: int) -> str:
    return f"{channels} channel{'' if channels == 1 else 's'}"
