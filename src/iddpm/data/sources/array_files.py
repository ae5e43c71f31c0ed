"""Files that hold one array each as items of one shape."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.file_lists import Files
from iddpm.data.sources.layouts import (
    bits_of,
    check_layout,
    check_rows,
    guess_layout,
    to_channels_first,
)
from iddpm.data.sources.resize import planned_size, resized
from iddpm.data.sources.source import Source, Stamp


class ArrayFiles(Source):
    """Arrays of one shape and dtype, such as the .npy members of shards.

    Args:
        files: where the arrays are.
        layout: the axes of an item with N before them, such as ``NHWC``; None guesses by the first
            item, and refuses when unsure.
        labels: a rule that the files know.
        image_size, channels: as for `iddpm.data.sources.arrays.ArraySource`.

    Raises:
        ValueError: a dtype, layout or label that cannot be used; when it is read, an item of
            another shape or dtype, or with values outside [-1, 1].
    """

    def __init__(
        self,
        files: Files,
        *,
        layout: str | None = None,
        labels: str = "auto",
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
    ) -> None:
        self.files = files
        self.name = files.name
        first = files.array(0)[None]
        title = files.title(0)
        self._stored_shape, self._dtype = first.shape[1:], first.dtype
        self.bits = bits_of(title, first)
        self._layout = guess_layout(title, first) if layout is None else layout
        check_layout(title, first, self._layout)
        self.shape = to_channels_first(first, self._layout).shape[1:]
        if channels not in (None, self.shape[0]):
            raise ValueError(
                f"{title} has {self.shape[0]} channels (layout {self._layout}) but channels is "
                f"{channels}; leave data.channels out, or convert the arrays"
            )
        self._resize_to = planned_size(files.where, self.shape, self.bits, image_size)
        if self._resize_to is not None:
            self.shape = (self.shape[0], *self._resize_to)
        self.labels, self.class_names = files.labels(labels, range(len(files)))

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        """Return the key of the file."""
        return self.files.key(index)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamps of the files."""
        return self.files.stamps()

    def read(self, index: int) -> NDArray[Any]:
        """Return one array as ``[C, *spatial]``, contiguous and in native byte order."""
        stored = self.files.array(index)
        title = self.files.title(index)
        if (stored.shape, stored.dtype) != (self._stored_shape, self._dtype):
            raise ValueError(
                f"{title} is {stored.dtype} of shape {stored.shape} while the first item is "
                f"{self._dtype} of {self._stored_shape}: all items must have the same dtype "
                "and shape"
            )
        if self.bits is None:
            check_rows(title, stored[None], [index])
        item = to_channels_first(stored[None], self._layout)[0]
        if self._resize_to is not None:
            item = resized(item, self._resize_to)
        dtype = np.dtype(np.float32) if self.bits is None else item.dtype.newbyteorder("=")
        return np.array(item, dtype, order="C")
