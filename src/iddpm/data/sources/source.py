"""What every reader offers, and the one place where stored integers become numbers in [-1, 1]."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray


class Stamp(NamedTuple):
    """What tells a file from a later one of the same name, without reading it.

    Attributes:
        name: relative to the data.
        size: in bytes.
        time: of the last change, in nanoseconds.
    """

    name: str
    size: int
    time: int

    @classmethod
    def of(cls, path: Path, name: str) -> "Stamp":
        """Return the stamp of a file on disk."""
        facts = path.stat()
        return cls(name, facts.st_size, facts.st_mtime_ns)


class Source(ABC):
    """A numbered collection of items of one shape, read on demand and never changed.

    Attributes:
        name: for messages and reports.
        shape: ``(C, *spatial)`` of every item, after resizing.
        bits: 8 or 16 when items are unsigned integers of that depth; None when they are floats that
            already lie in [-1, 1].
        labels: int64 ``[N]`` with values in ``range(len(class_names))``, or None.
        class_names: one name per class; empty without labels.
        ready: whether items lie there as they are read, so that a cache would gain nothing.
    """

    name: str
    shape: tuple[int, ...]
    bits: int | None
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    ready: bool = False

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @abstractmethod
    def read(self, index: int) -> NDArray[Any]:
        """Return item ``index`` as ``[C, *spatial]`` in the stored dtype, the caller's to keep."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Return a name of the item that stays the same when others come or go."""

    @abstractmethod
    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file that is read from, always in the same order."""

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Return items as ``[N, C, *spatial]``, in the order asked for."""
        return np.stack([self.read(int(index)) for index in indices])


def to_model_range(x: torch.Tensor | NDArray[Any], bits: int | None) -> torch.Tensor:
    """Return ``x`` as float32 in [-1, 1]: level 0 becomes -1 and level ``2**bits - 1`` becomes 1.

    With ``bits=None`` the values are in [-1, 1] already and only the dtype changes.
    """
    values = torch.as_tensor(x).to(torch.float32)
    return values if bits is None else values / _half_range(bits) - 1.0


def to_stored_range(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Return finite ``x`` in [-1, 1] as the nearest of ``2**bits`` levels, uint8 or uint16.

    The inverse of `to_model_range`, exact for every level up to 16 bits. Values outside [-1, 1]
    are clamped.
    """
    levels = (x.to(torch.float32).clamp(-1.0, 1.0) + 1.0) * _half_range(bits)
    return levels.round().to(torch.uint8 if bits <= 8 else torch.uint16)


def _half_range(bits: int) -> float:
    if not 1 <= bits <= 16:
        raise ValueError(f"bits is {bits}; give 1 to 16, or None for values already in [-1, 1]")
    return float(2**bits - 1) / 2
