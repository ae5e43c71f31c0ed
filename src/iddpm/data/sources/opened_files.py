"""Files of one recording each, which a function of their format opens and reads part by part."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.folder import RecordingFiles
from iddpm.data.sources.label_tables import labels_of_files
from iddpm.data.values import Chunk, Wanted, find_values

Box = tuple[int, ...]
_KEPT = 1 << 28  # bytes of recordings that stay in memory
_OPEN = 32  # files that stay open
_AT_ONCE = 1 << 24  # numbers looked at at a time


@dataclass
class Recording:
    """The numbers of one file, opened and not read yet.

    Attributes:
        shape: ``(C, *spatial)``.
        dtype: of the numbers, as the format's library returns them.
        part: from a start and a size to the numbers ``[C, *size]``.
        kept: bytes that stay in memory while it is open.
        facts: what all files of a folder must agree in, by what messages call it.
        form: the fields of `Form` beside the values that the file fills in.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    part: Callable[[Box, Box], NDArray[Any]]
    kept: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)
    form: Mapping[str, Any] = field(default_factory=dict)


def held(array: NDArray[Any], **more: Any) -> Recording:
    """Return a recording whose numbers ``[C, *spatial]`` are in memory, or mapped."""
    kept = 0 if isinstance(array, np.memmap) else array.nbytes

    def part(start: Box, size: Box) -> NDArray[Any]:
        return array[(slice(None), *box(start, size))]

    return Recording(array.shape, array.dtype, part, kept, **more)


def box(start: Box, size: Box) -> tuple[slice, ...]:
    """Return the slices of a part."""
    return tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))


class OpenedFiles(RecordingFiles):
    """The files of some suffixes below a folder, or one file, a recording each.

    Integers of one dtype stay what they are; floats become float32.

    Args:
        path: a folder or a file.
        suffixes: of the files, in small letters.
        open_file: opens one; at the top of a module, so that workers can be handed it.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`.
        value_range: see `iddpm.data.values.find_values`.
        corrupt: see `iddpm.data.sources.folder.RecordingFiles`.
        kind: of their `Form`.

    Raises:
        ValueError: a damaged file, or files that differ in channels, axes, dtype or facts.
    """

    _mixed = False
    """Whether whole numbers in some files may stand beside floats in others."""

    def __init__(
        self,
        path: Path,
        suffixes: tuple[str, ...],
        open_file: Callable[[Path], Recording],
        *,
        labels: str = "auto",
        value_range: Wanted = None,
        corrupt: Literal["error", "skip"] = "error",
        kind: str = "array",
    ) -> None:
        self._open_file = open_file
        self._opened: dict[int, Recording] = {}
        super().__init__(path, suffixes, corrupt)
        first = self._recording(0)
        shapes: list[tuple[int, ...]] = []
        dtypes: dict[np.dtype[Any], str] = {}
        for index, key in enumerate(self._keys):
            recording = self._recording(index)
            self._refuse_differing(key, recording, first)
            shapes.append(recording.shape)
            dtypes.setdefault(recording.dtype.newbyteorder("="), key)
        self.channels, self.sizes = first.shape[0], [shape[1:] for shape in shapes]
        self._dtype = _common(dtypes, self._mixed)
        self.labels, self.class_names = labels_of_files(labels, self._keys, self._root)
        nbytes = sum(map(prod, shapes)) * self._dtype.itemsize
        self._values = find_values(self.name, self._dtype, value_range, nbytes, self._chunks)
        self.bits = self._values.bits
        self.form = Form(kind, self._values, **first.form)

    def __getstate__(self) -> dict[str, Any]:
        """Leave what is open behind: each process opens files for itself."""
        return {**self.__dict__, "_opened": {}}

    def _recording(self, index: int) -> Recording:
        found = self._opened.get(index)
        if found is None:
            found = self._open_file(self._root / self._keys[index])
            kept = sum(each.kept for each in self._opened.values())
            if len(self._opened) >= _OPEN or kept + found.kept > _KEPT:
                self._opened.clear()
            self._opened[index] = found
        return found

    def _read_whole(self, key: str) -> None:
        recording = self._open_file(self._root / key)
        for start, size in _parts(recording.shape, whole=True):
            recording.part(start, size)

    def _raw(self, index: int, start: Box, size: Box) -> NDArray[Any]:
        return self._recording(index).part(start, size)

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index, size in enumerate(self.sizes):
            for start, part in _parts((self.channels, *size), whole):
                yield [index], self._raw(index, start, part)[None]

    def _refuse_differing(self, key: str, one: Recording, first: Recording) -> None:
        shapes = {"axes": len(one.shape), "channels": one.shape[0]}
        others = {"axes": len(first.shape), "channels": first.shape[0]}
        for what, value in {**shapes, **one.facts}.items():
            other = {**others, **first.facts}.get(what)
            if value != other:
                raise ValueError(
                    f"{self._keys[0]} and {key} of {self.name} differ in {what}: {_said(other)} "
                    f"and {_said(value)}; a folder holds one item in each file, all of one kind"
                )


def _common(dtypes: Mapping[np.dtype[Any], str], mixed: bool) -> np.dtype[Any]:
    """Return the dtype that all are read as; ValueError where some would be converted."""
    if len(dtypes) == 1 and next(iter(dtypes)).kind != "f":
        return next(iter(dtypes))
    other = next((dtype for dtype in dtypes if dtype.kind != "f"), None)
    if other is None or mixed:
        return np.dtype(np.float32)
    second = next(dtype for dtype in dtypes if dtype != other)
    raise ValueError(
        f"{dtypes[other]} holds {other} and {dtypes[second]} {second}: convert them to one"
    )


def _parts(shape: tuple[int, ...], whole: bool) -> Iterator[tuple[Box, Box]]:
    """Yield where the parts of a recording lie: all of them along its first axis, or the first."""
    length, *rest = shape[1:]
    step = max(1, _AT_ONCE // max(1, prod(rest) * shape[0]))
    for first in range(0, length if whole else 1, step):
        yield (first, *[0] * len(rest)), (min(step, length - first), *rest)


def _said(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return str(value)
