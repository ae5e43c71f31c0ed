"""Numbered files, wherever they lie: in folders, in tar shards, in a column of a table."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from iddpm.data.sources.label_tables import Labels
from iddpm.data.sources.npy import map_npy, parse_npy
from iddpm.data.sources.source import Stamp


class Files(ABC):
    """Files that hold one item each, in an order that stays.

    They travel to worker processes, so that none may hold an open file when it is pickled.

    Attributes:
        name: for reports.
        where: what messages call the whole.
    """

    name: str
    where: str

    @abstractmethod
    def __len__(self) -> int:
        """Return how many there are."""

    @abstractmethod
    def key(self, index: int) -> str:
        """Return a name that stays the same when others come or go."""

    @abstractmethod
    def title(self, index: int) -> str:
        """Return what messages call one file: enough to find it; its suffix is the file's."""

    @abstractmethod
    def content(self, index: int) -> Path | bytes:
        """Return where a file lies, or what it holds."""

    def array(self, index: int) -> NDArray[Any]:
        """Return the array that a .npy file holds."""
        content = self.content(index)
        if isinstance(content, bytes):
            return parse_npy(content, self.title(index))
        return map_npy(content)

    @abstractmethod
    def labels(self, rule: str, chosen: Sequence[int]) -> Labels:
        """Return the labels of some of the files by a rule."""

    @abstractmethod
    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file on disk."""
