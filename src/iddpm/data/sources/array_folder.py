"""A folder of arrays or of tables of numbers, each file an item."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrays import LABEL_KEYS, data_key
from iddpm.data.sources.layouts import check_layout, guess_layout, to_channels_first
from iddpm.data.sources.npy import map_npy, read_npz
from iddpm.data.sources.opened_files import Box, OpenedFiles, Recording, box, held
from iddpm.data.sources.resize import planned_size, resized

Opener = Callable[[Path, str | None], Any]
"""From a file and ``data.column`` to what is indexed as an array of one item is."""


class ArrayFolder(OpenedFiles):
    """The array files below a folder, or tables of numbers, each an item.

    Args:
        path: the folder.
        suffixes: of the files.
        open_file: what opens one of them, such as `open_array_item`.
        image_size: None, or the size to which uint8 images are cropped and resized.
        channels: None, or the number the items must have.
        labels, value_range, corrupt: as for `OpenedFiles`.

    Raises:
        ValueError: as for `OpenedFiles`, and a layout that does not go with the items.
    """

    def __init__(
        self,
        path: Path,
        suffixes: tuple[str, ...],
        open_file: Callable[[Path], Recording],
        *,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        **files: Any,
    ) -> None:
        self._resize_to: tuple[int, int] | None = None
        super().__init__(path, suffixes, open_file, **files)
        if channels not in (None, self.channels):
            raise ValueError(
                f"{self.name} holds items of {self.channels} channels but channels is {channels}; "
                "leave data.channels out, or convert the arrays"
            )
        if image_size is not None:
            bits = 8 if self._dtype == np.uint8 else None
            for size in self.sizes:
                target = planned_size(self.name, (self.channels, *size), bits, image_size)
                self._resize_to = target or self._resize_to
            if self._resize_to is not None:
                self.sizes = [self._resize_to] * len(self.sizes)

    def _raw(self, index: int, start: Box, size: Box) -> NDArray[Any]:
        if self._resize_to is None:
            return super()._raw(index, start, size)
        recording = self._recording(index)
        whole = recording.part((0, 0), recording.shape[1:])
        fitted = whole if whole.shape[1:] == self._resize_to else resized(whole, self._resize_to)
        return fitted[(slice(None), *box(start, size))]


class TableFolder(ArrayFolder):
    """The same of tables, in which a file may hold whole numbers alone by chance."""

    _mixed = True


def open_array_item(
    path: Path, *, opener: Opener, layout: str | None = None, column: str | None = None
) -> Recording:
    """Open the array in a file as one item.

    Args:
        path: the file.
        opener: from a file and ``column`` to what is indexed as an array.
        layout: the axes of an item with N before them, such as ``NHWC``; None guesses, and refuses
            when unsure.
        column: the array in the file, where there are several.

    Raises:
        ValueError: a damaged file, or a layout that does not go with the array.
    """
    array = opener(path, column)
    title = str(path)
    alone = np.broadcast_to(np.empty((), array.dtype), (1, *array.shape))  # its shape and dtype
    axes = guess_layout(title, alone) if layout is None else layout
    check_layout(title, alone, axes)
    shape = to_channels_first(alone, axes).shape[1:]
    if isinstance(array, np.ndarray):
        return held(to_channels_first(array[None], axes)[0])
    place = axes.find("C") - 1

    def part(start: Box, size: Box) -> NDArray[Any]:
        cut = list(box(start, size))
        if place < 0:
            return np.asarray(array[tuple(cut)])[None]
        cut.insert(place, slice(None))
        return np.moveaxis(np.asarray(array[tuple(cut)]), place, 0)

    return Recording(shape, array.dtype, part)


def open_numpy(path: Path, column: str | None) -> NDArray[Any]:
    """Return the array of a .npy, or of a .npz as `iddpm.data.sources.arrays.data_key` finds it."""
    if path.suffix.lower() == ".npy":
        if column is not None:
            raise ValueError(f"column={column!r} selects one of several arrays; {path} has one")
        return map_npy(path)
    members = read_npz(path)
    label_key = next((key for key in LABEL_KEYS if key in members and key != column), None)
    return members[data_key(path, members, label_key, column)]
