"""What every reader offers."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form

DENSEST = 1100
"""Bytes that a byte of deflated data, as in gzip, zip and HDF5, can hold, and some more."""


class Stamp(NamedTuple):
    """What tells a file from a later one of the same name, without reading it.

    Attributes:
        name: relative to the data.
        size: in bytes.
        time: of the last change, in nanoseconds.
        path: where the file lies; None for what is no file.
    """

    name: str
    size: int
    time: int
    path: Path | None = None

    @classmethod
    def of(cls, path: Path, name: str) -> "Stamp":
        """Return the stamp of a file on disk."""
        facts = path.stat()
        return cls(name, facts.st_size, facts.st_mtime_ns, path)


class InMemory(NamedTuple):
    """What data in memory was: ``array``, ``tensor`` or ``dataset``, its shape and its dtype."""

    kind: str
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.kind} of shape {tuple(self.shape)}, {self.dtype}, in memory"


class Source(ABC):
    """A numbered collection of items of one shape, read on demand and never changed.

    Attributes:
        name: for messages and reports.
        shape: ``(C, *spatial)`` of every item, after resizing.
        bits: depth when items are unsigned integers, levels from 0 on; None when they are floats
            in [-1, 1].
        labels: int64 ``[N]`` with values in ``range(len(class_names))``, or -1 for items without a
            class; or None.
        class_names: one name per class; empty without labels.
        conditions: float32 ``[N, K]``, the conditions of each item other than its class, NaN where
            unknown; or None.
        given: paired data with an item for each of these, at the same index; or None.
        ready: whether items lie there as they are read, so that a cache would gain nothing.
        form: what the items are on disk.
        memory: what the data was, where it is an object in memory; None for files.
        columns: conditions that the items bring along, a cell for each item by name; or None.
        taken: what a reader of text took for header, labels and values; empty for others.
    """

    name: str
    shape: tuple[int, ...]
    bits: int | None
    labels: NDArray[np.int64] | None
    class_names: tuple[str, ...]
    conditions: NDArray[np.float32] | None = None
    given: "Source | None" = None
    ready: bool = False
    memory: InMemory | None = None
    columns: dict[str, list[str]] | None = None
    form: Form = Form()
    taken: str = ""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of items."""

    @property
    def unlabeled(self) -> int:
        """Number of items without a class, where others have one."""
        return 0 if self.labels is None else int((self.labels < 0).sum())

    @abstractmethod
    def read(self, index: int) -> NDArray[Any]:
        """Return item ``index``, ``[C, *spatial]``: levels or floats, the caller's to keep."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Return a name of the item that stays the same when others come or go."""

    def group(self, index: int) -> str:
        """Return what the item must not be parted from, such as the other windows of a signal."""
        return self.key(index)

    def recording(self, index: int) -> str:
        """Return the key of what the item was cut out of; its own where it is whole."""
        return self.key(index)

    @abstractmethod
    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file that is read from, always in the same order."""

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Return items as ``[N, C, *spatial]``, in the order of the indices."""
        return np.stack([self.read(int(index)) for index in indices])


class DerivedSource(Source):
    """The items of another source, ``_source``, read in another way: they go by its names."""

    _source: Source

    @property
    def original(self) -> Source:
        """The other source."""
        return self._source

    def key(self, index: int) -> str:
        """Return the key in the other source."""
        return self._source.key(index)

    def group(self, index: int) -> str:
        """Return the group in the other source."""
        return self._source.group(index)

    def recording(self, index: int) -> str:
        """Return the recording in the other source."""
        return self._source.recording(index)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamps of the other source."""
        return self._source.stamps()
