"""A source of pictures that use a part of their depth, such as 12 of 16 bits."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.source import DerivedSource, Source
from iddpm.data.values import Chunk, Filled, Wanted, find_values, natural_values

_AT_ONCE = 64
_PARTS = 16


class Ranged(DerivedSource):
    """Another source with a range of its own.

    Args:
        source: items of 8 or 16 bits.
        wanted: the stored numbers that become -1 and 1, or ``"auto"`` to measure them.

    Raises:
        ValueError: a range that does not fit, or items beyond it.
    """

    def __init__(self, source: Source, wanted: Wanted) -> None:
        self._source = source
        self.name, self.shape = source.name, source.shape
        self.labels, self.class_names = source.labels, source.class_names
        self.ready = source.ready
        dtype = np.dtype(natural_values(source.bits).dtype)
        nbytes = len(source) * int(np.prod(source.shape)) * dtype.itemsize
        self._values = find_values(self.name, dtype, wanted, nbytes, self._chunks)
        self.bits = self._values.bits
        self.form = replace(source.form, values=self._values)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> NDArray[Any]:
        """Return one item."""
        item: NDArray[Any] = self.read_many([index])[0]
        return item

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Return items as ``[N, C, *spatial]``."""
        return self._values.read(self._source.read_many(indices), self.name, indices)

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        starts = list(range(0, len(self), _AT_ONCE))
        if not whole:
            starts = starts[:: -(-len(starts) // _PARTS)]
        for start in starts:
            numbers = range(start, min(start + _AT_ONCE, len(self)))
            yield numbers, self._source.read_many(list(numbers))


def ranged(source: Source, wanted: Wanted) -> Source:
    """Return the source with a range, itself where it has that one already."""
    if isinstance(wanted, Filled):  # integers, in which there is no NaN
        wanted = wanted.wanted
    if wanted is None or source.form.values is not None:
        return source
    natural = natural_values(source.bits)
    return source if wanted == (natural.low, natural.high) else Ranged(source, wanted)
