"""Arrays in memory and in .npy and .npz files, mapped rather than loaded where that can be."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.label_tables import class_table
from iddpm.data.sources.layouts import (
    check_layout,
    guess_layout,
    to_channels_first,
)
from iddpm.data.sources.npy import map_npy, read_npz
from iddpm.data.sources.resize import planned_size, resized
from iddpm.data.sources.source import Source, Stamp
from iddpm.data.values import Chunk, Wanted, array_chunks, find_values, natural_values

_DATA_KEYS = ("arr_0", "images", "x", "data")
LABEL_KEYS = ("labels", "y", "arr_1")
_CHUNK_BYTES = 1 << 22  # looked at at a time
_CHUNKS = 16  # looked at where that is all


class ArraySource(Source):
    """The rows of one array: signals ``[C, L]``, images ``[C, H, W]`` or volumes ``[C, D, H, W]``.

    A memory map is handed to worker processes as a file name, and reopened there.

    Args:
        array: integers or floats.
        name: for messages.
        layout: the meaning of the axes, one of `iddpm.data.sources.layouts.LAYOUTS`; None guesses,
            and refuses when unsure.
        labels: integers ``[N]``, -1 for items without a class, or names of classes ``[N]``.
        class_names: what the integers stand for; by default the integers themselves.
        image_size: None, or the size to which uint8 images are cropped and resized.
        channels: None, or the number the array must have.
        path: the file that it came from, if any.
        value_range: see `iddpm.data.values.find_values`.

    Raises:
        ValueError: a dtype, layout, value or label that cannot be used.
    """

    def __init__(
        self,
        array: NDArray[Any],
        *,
        name: str,
        layout: str | None = None,
        labels: NDArray[Any] | None = None,
        class_names: Sequence[str] = (),
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        path: Path | None = None,
        value_range: Wanted = None,
    ) -> None:
        self.name = name
        self._path = path
        self._array = array
        self._layout = guess_layout(name, array) if layout is None else layout
        check_layout(name, array, self._layout)
        self._values = find_values(name, array.dtype, value_range, array.nbytes, self._chunks)
        self.bits = self._values.bits
        self.form = Form(values=self._values)
        self.shape = to_channels_first(array[:1], self._layout).shape[1:]
        if channels not in (None, self.shape[0]):
            raise ValueError(
                f"{name} has {self.shape[0]} channels (layout {self._layout}) but channels is "
                f"{channels}; leave data.channels out, or convert the array"
            )
        self._resize_to = planned_size(
            name, self.shape, 8 if self._values == natural_values(8) else None, image_size
        )
        self.ready = self._resize_to is None
        if self._resize_to is not None:
            self.shape = (self.shape[0], *self._resize_to)
        self.labels, self.class_names = checked_labels(name, len(array), labels, class_names)

    def __len__(self) -> int:
        return len(self._array)

    def key(self, index: int) -> str:
        """Return the row number."""
        return str(index)

    def stamps(self) -> Iterator[Stamp]:
        """Yield the stamp of the file, or one of the size alone."""
        if self._path is None:
            yield Stamp(self.name, self._array.nbytes, 0)
        else:
            yield Stamp.of(self._path, self._path.name)

    def read(self, index: int) -> NDArray[Any]:
        """Return one row as ``[C, *spatial]``."""
        item: NDArray[Any] = self.read_many([index])[0]
        return item

    def read_many(self, indices: Sequence[int] | NDArray[np.int64]) -> NDArray[Any]:
        """Return rows as ``[N, C, *spatial]``, contiguous and in native byte order."""
        rows = np.asarray(self._array[np.asarray(indices, dtype=np.int64)])
        rows = to_channels_first(rows, self._layout)
        if self._resize_to is not None:
            rows = np.stack([resized(row, self._resize_to) for row in rows])
        return np.ascontiguousarray(self._values.read(rows, self.name, indices))

    def __getstate__(self) -> dict[str, Any]:
        """Replace a memory map by where it lies, since pickle would copy its contents."""
        state = dict(self.__dict__)
        if isinstance(self._array, np.memmap):
            state["_array"] = {
                "filename": self._array.filename,
                "dtype": self._array.dtype,
                "offset": self._array.offset,
                "shape": self._array.shape,
                "order": "C" if self._array.flags.c_contiguous else "F",
            }
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Reopen the memory map."""
        if isinstance(state["_array"], dict):
            state["_array"] = np.memmap(mode="r", **state["_array"])
        self.__dict__.update(state)

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        return array_chunks(self._array, _CHUNK_BYTES, None if whole else _CHUNKS)


def open_array(
    path: str | Path,
    *,
    layout: str | None = None,
    labels: str = "auto",
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    column: str | None = None,
    value_range: Wanted = None,
) -> ArraySource:
    """Open a .npy or .npz file.

    In a .npz the data is ``arr_0``, ``images``, ``x``, ``data`` or the only array left beside the
    labels; labels are ``labels``, ``y`` or ``arr_1`` (the layout of improved-diffusion's samples),
    named by an optional ``class_names``. Members stored without compression are memory-mapped.

    Args:
        path: the file.
        layout: see `ArraySource`.
        labels: ``"auto"`` takes those in the file, ``"none"`` leaves them.
        image_size: see `ArraySource`.
        channels: see `ArraySource`.
        column: name of the data in a .npz, where it has another.
        value_range: see `ArraySource`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, pickled objects, or an array that cannot be used.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if labels not in ("auto", "none"):
        raise ValueError(
            f"labels={labels!r} does not go with {path}; use 'auto' (the labels in a .npz) or "
            "'none'"
        )
    array, row_labels, class_names = _parts(path, column)
    return ArraySource(
        array,
        name=path.name,
        layout=layout,
        labels=row_labels if labels == "auto" else None,
        class_names=class_names if labels == "auto" else (),
        image_size=image_size,
        channels=channels,
        path=path,
        value_range=value_range,
    )


def _parts(
    path: Path, column: str | None
) -> tuple[NDArray[Any], NDArray[Any] | None, tuple[str, ...]]:
    """Return the data, the labels and the class names in a file."""
    if path.suffix.lower() == ".npy":
        if column is not None:
            raise ValueError(
                f"column={column!r} selects one of several arrays, and {path} has only one"
            )
        return map_npy(path), None, ()
    members = read_npz(path)
    label_key = next((key for key in LABEL_KEYS if key in members and key != column), None)
    key = data_key(path, members, label_key, column)
    names = tuple(str(name) for name in members.get("class_names", ()))
    return members[key], None if label_key is None else members[label_key], names


def data_key(
    path: Path, members: Mapping[str, Any], label_key: str | None, column: str | None = None
) -> str:
    """Return the name of the data among arrays; ValueError where that is unclear."""
    if column is not None:
        if column in members:
            return column
        raise ValueError(
            f"{path} has no array {column!r}, only {', '.join(members) or 'none at all'}: name "
            "one of them with data.column"
        )
    for key in _DATA_KEYS:
        if key in members:
            return key
    rest = [key for key in members if key not in (label_key, "class_names")]
    if len(rest) == 1:
        return rest[0]
    raise ValueError(
        f"{path} holds the arrays {', '.join(members) or '(none)'}"
        + (f"; select the data with -s data.column={rest[0]}" if rest else ", and no data")
    )


def checked_labels(
    name: str, count: int, labels: NDArray[Any] | None, class_names: Sequence[str]
) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Return class numbers [N], -1 for items without one, and the names of the classes.

    Raises:
        ValueError: labels that do not fit.
    """
    if labels is None:
        return None, ()
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    if labels.shape != (count,):
        raise ValueError(f"{name} has labels of shape {labels.shape} for {count} items")
    if labels.dtype.kind == "U":
        return class_table([str(label) for label in labels])
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name} has labels of {labels.dtype}; save integers from 0, or names")
    numbers = np.array(labels, dtype=np.int64)
    lowest, highest = int(numbers.min()), int(numbers.max())
    names = tuple(class_names) or tuple(str(number) for number in range(highest + 1))
    if lowest < -1 or highest >= len(names):
        raise ValueError(
            f"{name} has labels from {lowest} to {highest} for {len(names)} classes; "
            "number them from 0, with -1 for items without a class"
        )
    if lowest < 0 and not class_names and not (numbers == 0).any():
        raise ValueError(
            f"{name} has labels from {lowest} to {highest} and none is 0: number classes from "
            "0, because -1 means no class"
        )
    return numbers, names
