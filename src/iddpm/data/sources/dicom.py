"""DICOM files by themselves, and folders whose slices are a volume, in the units meant."""

import warnings
from collections.abc import Iterator
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.dicom_headers import (
    Header,
    Plane,
    apply_table,
    may_be_dicom,
    read_header,
    read_pixels,
)
from iddpm.data.sources.dicom_series import Item, arrange
from iddpm.data.sources.extras import needed
from iddpm.data.sources.folder import every_file, whole_files
from iddpm.data.sources.label_tables import Labels, labels_of_files
from iddpm.data.sources.rasters import fitted
from iddpm.data.sources.source import Stamp
from iddpm.data.sources.unreadable import UnreadablePictureError
from iddpm.data.sources.windows import Recordings
from iddpm.data.values import WHOLE_BYTES, Chunk, Filled, Values, Wanted, find_values

_KEPT = 1 << 28  # bytes of decoded frames that stay in memory
_WHOLE = (np.uint8, np.uint16, np.int16, np.int32, np.int64)
_ONES = ("MONOCHROME1", "MONOCHROME2")


class Dicoms(Recordings):
    """The DICOM files below a folder, or one file.

    The slices of a series in a folder are a volume ``[1, slices, rows, columns]``, ordered by their
    positions along the normal. Other files are items by themselves: ``[C, rows, columns]``, or of
    several frames ``[C, frames, rows, columns]``. Rescale slope and intercept are applied; where
    both are whole and the slope is 1 the numbers stay integers. Files of a patient are a group.

    Args:
        path: a folder or a file.
        column: the number, description or UID of the series to read where a folder holds several.
        image_size: crops and resizes items of two axes, as it does pictures.
        channels: what the items must have, where it is stated.
        labels: a rule of `iddpm.data.sources.label_tables.labels_of_files`, for the folder of each
            series or the name of each file; folders that are one patient each are no classes.
        value_range: see `iddpm.data.values.find_values`; that of more than 8 bits is measured.
        corrupt: ``"skip"`` decodes everything once and leaves out what cannot be read.

    Raises:
        ValueError: a damaged file, a series that lacks slices, a folder of several series, or items
            that do not go together.
    """

    def __init__(
        self,
        path: Path,
        *,
        column: str | None = None,
        image_size: int | tuple[int, int] | None = None,
        channels: int | None = None,
        labels: str = "auto",
        value_range: Wanted = None,
        corrupt: Literal["error", "skip"] = "error",
    ) -> None:
        needed("pydicom", "dicom", f"reading {path}")
        self.name, self._root = path.resolve().name, path.parent if path.is_file() else path
        items = _find(path, self._root, column, corrupt == "skip")
        self._resized = (image_size, image_size) if isinstance(image_size, int) else image_size
        self._planes: dict[tuple[int, int], NDArray[Any]] = {}
        self._items = items
        self._inverted = _inverted(self.name, items)
        if corrupt == "skip":
            numbers = {item.key: item for item in items}
            kept = whole_files(
                str(path),
                [item.key for item in items],
                lambda key: [self._plane(numbers[key], plane) for plane in numbers[key].planes],
                UnreadablePictureError,
            )
            self._items = items = [numbers[key] for key in kept]
        _check_alike(self.name, items)
        self.channels = items[0].header.samples
        if channels not in (None, self.channels):
            raise ValueError(
                f"{self.name} holds DICOM files of {self.channels} samples per pixel, and "
                f"data.channels is {channels}: leave it out"
            )
        deep = items[0].deep
        self._resized = None if deep else self._resized
        self.sizes = [
            (*((len(item.planes),) if deep else ()), *(self._resized or item.header.size))
            for item in items
        ]
        self._dtype = _dtype([header for item in items for header in item.headers])
        patients = [item.header.patient for item in items]
        self._patients = patients if all(patients) and len(set(patients)) > 1 else None
        self.labels, self.class_names = self._labels(labels)
        nbytes = sum(map(prod, self.sizes)) * self.channels * self._dtype.itemsize
        known = None
        wanted = value_range.wanted if isinstance(value_range, Filled) else value_range
        if wanted is None and self._dtype == np.uint16:
            bits = max(item.header.bits for item in items)
            known = Values("uint16", 0, 2.0**bits - 1)
            if nbytes <= WHOLE_BYTES:
                value_range = "auto"
        self._values = find_values(self.name, self._dtype, value_range, nbytes, self._chunks, known)
        self.bits = self._values.bits
        self.form = Form(
            "volume" if deep else "raster",
            self._values,
            encoding=None if deep else "rgb" if self.channels == 3 else "minisblack",
            affine=items[0].affine,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave decoded frames behind."""
        return {**self.__dict__, "_planes": {}}

    def key(self, index: int) -> str:
        """Return the folder of a series, or the file, relative to the data."""
        return self._items[index].key

    def group(self, index: int) -> str:
        """Return the patient; the item itself where all are of one, or some of an unknown one."""
        return self.key(index) if self._patients is None else self._patients[index]

    def stamps(self) -> Iterator[Stamp]:
        """Yield a stamp of each file."""
        for item in self._items:
            for file in item.files:
                yield Stamp.of(file, file.relative_to(self._root).as_posix())

    def read_box(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        """Return a part ``[C, *size]``."""
        raw = self._raw(index, start, size)[None]
        part: NDArray[Any] = self._values.read(raw, self.key(index), [index])[0]
        return part

    def _raw(self, index: int, start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[Any]:
        top, left = (slice(a, a + n) for a, n in zip(start[-2:], size[-2:], strict=True))
        numbers = range(start[0], start[0] + size[0]) if len(size) == 3 else range(1)
        planes = [self._decoded(index, number)[:, top, left] for number in numbers]
        return np.stack(planes, 1) if len(size) == 3 else planes[0]

    def _decoded(self, index: int, number: int) -> NDArray[Any]:
        plane = self._planes.get((index, number))
        if plane is None:
            item = self._items[index]
            meant = self._plane(item, item.planes[number])
            plane = meant.astype(self._dtype)
            if self._dtype.kind in "iu" and (plane != meant).any():
                raise UnreadablePictureError(
                    f"{item.planes[number].path} holds numbers of more than the "
                    f"{item.header.bits} bits that its header says"
                )
            if self._resized is not None:
                plane = fitted(plane, self._resized)
            if (len(self._planes) + 1) * plane.nbytes > _KEPT:
                self._planes.clear()
            self._planes[index, number] = plane
        return plane

    def _plane(self, item: Item, plane: Plane) -> NDArray[Any]:
        """Return a frame ``[C, H, W]`` in the units that are meant."""
        header = item.header
        stored = np.asarray(read_pixels(plane, header.light))
        shape = (*header.size, *((3,) if header.samples == 3 else ()))
        if stored.shape != shape:
            raise UnreadablePictureError(
                f"{plane.path} is damaged (a frame has the shape {stored.shape} where the header "
                f"says {shape})"
            )
        if header.light == "MONOCHROME1" and self._inverted:
            lowest, highest = _stored_range(header)
            stored = lowest + highest - stored.astype(np.int64)
        if header.table:
            stored = apply_table(plane, stored)
        elif (plane.slope, plane.intercept) != (1.0, 0.0):
            stored = stored.astype(np.float64) * plane.slope + plane.intercept
        return np.moveaxis(stored, -1, 0) if header.samples == 3 else stored[None]

    def _labels(self, rule: str) -> Labels:
        keys = [item.key for item in self._items]
        if rule == "auto" and self._patients is not None:
            tops = [PurePosixPath(key).parts[0] for key in keys]
            pairs = set(zip(tops, self._patients, strict=True))
            if len(pairs) == len(set(tops)) == len(set(self._patients)):  # a folder a patient
                warnings.warn(
                    f"each folder of {self.name} is a patient: reading all items without classes; "
                    "read folders as classes with -s data.labels=folder",
                    stacklevel=4,
                )
                rule = "none"
        return labels_of_files(rule, keys, self._root)

    def _chunks(self, whole: bool) -> Iterator[Chunk]:
        for index, size in enumerate(self.sizes):
            deep = len(size) == 3
            for first in range(size[0] if deep and whole else 1):
                start, part = ((first, 0, 0), (1, *size[1:])) if deep else ((0, 0), size)
                yield [index], self._raw(index, start, part)[None]
            if not whole:
                return


def _find(path: Path, root: Path, column: str | None, skip: bool) -> list[Item]:
    """Return the items of a folder or a file."""
    if path.is_file():
        names = [path.name]
    else:
        names = sorted(name for name in every_file(path) if may_be_dicom(path / name))
    folders: dict[str, list[Header]] = {}
    damaged: dict[str, UnreadablePictureError] = {}
    others = []
    for name in names:
        try:
            header = read_header(root / name)
        except UnreadablePictureError as error:
            if not skip:
                raise
            damaged[name] = error
            continue
        if header is None:
            others.append(name)
        else:
            folders.setdefault(PurePosixPath(name).parent.as_posix(), []).append(header)
    if others and not folders:
        raise ValueError(f"{root / others[0]} is a DICOM file without pixels, such as a report")
    if others:
        warnings.warn(
            f"skipped {len(others)} DICOM files of {path} without pixels, such as {others[0]}",
            stacklevel=5,
        )
    items = arrange(root, folders, column, damaged.__setitem__ if skip else None)
    holed = {PurePosixPath(name).parent.as_posix() for name in damaged}
    whole = [item for item in items if len(item.files) == 1 or item.key not in holed]
    damaged |= {
        item.key: UnreadablePictureError(f"{item.key} lacks slices") for item in items
        if item not in whole
    }  # fmt: skip
    if damaged:
        first = next(iter(damaged.values()))
        if not whole:
            raise ValueError(
                f"none of the {len(damaged)} files and series of {path} can be read, first: {first}"
            )
        warnings.warn(
            f"skipped {len(damaged)} of {len(damaged) + len(whole)} files and series of {path} "
            f"that cannot be read ({', '.join(list(damaged)[:5])}), first: {first}",
            stacklevel=5,
        )
    if not whole:
        raise FileNotFoundError(f"{path} holds no DICOM file with pixels")
    return whole


def _inverted(name: str, items: list[Item]) -> bool:
    """Say whether files in which low numbers are bright are inverted: beside others they are."""
    lights = [item.header.light for item in items]
    dark = lights.count("MONOCHROME1")
    if not dark:
        return False
    if dark == len(lights):
        warnings.warn(
            f"in the DICOM files of {name} low numbers are bright (MONOCHROME1); they are read as "
            "they are stored",
            stacklevel=4,
        )
        return False
    warnings.warn(
        f"in {dark} of {len(lights)} DICOM files of {name} low numbers are bright (MONOCHROME1): "
        "these are inverted",
        stacklevel=4,
    )
    return True


def _check_alike(name: str, items: list[Item]) -> None:
    """Refuse items that differ in axes, samples or orientation; warn of spacings that do."""
    kinds = {(item.deep, item.header.samples): item.key for item in items}
    if len(kinds) > 1:
        ((deep, samples), one), ((others, more), two) = list(kinds.items())[:2]
        raise ValueError(
            f"{one} has {2 + deep} axes and {samples} samples per pixel, {two} has {2 + others} "
            f"and {more}: put each kind of DICOM file into its own folder"
        )
    placed = [item for item in items if item.affine is not None]
    axes = {_axes(item): item.key for item in placed}
    if len(axes) > 1:
        (first, one), (second, two) = list(axes.items())[:2]
        raise ValueError(
            f"the slices of {one} run in the directions {first} and those of {two} in {second}: "
            "put series of one orientation into a folder"
        )
    if placed:
        spacings = np.array([_spacing(item) for item in placed])
        if not np.allclose(spacings, spacings[0], rtol=0.01):
            warnings.warn(
                f"{name} holds series of different voxel sizes, from {spacings.min(0)} to "
                f"{spacings.max(0)} mm; they are not resampled",
                stacklevel=4,
            )


def _axes(item: Item) -> str:
    """Return the directions in which slices, rows and columns run, such as SPR."""
    matrix = np.array(item.affine)[:3, :3]
    nearest = np.abs(matrix).argmax(0)
    return "".join(
        ("LR", "PA", "IS")[axis][int(matrix[axis, k] > 0)] for k, axis in enumerate(nearest)
    )


def _spacing(item: Item) -> NDArray[np.float64]:
    return np.asarray(np.linalg.norm(np.array(item.affine)[:3, :3], axis=0))


def _stored_range(header: Header) -> tuple[int, int]:
    if header.signed:
        return -(2 ** (header.bits - 1)), 2 ** (header.bits - 1) - 1
    return 0, 2**header.bits - 1


def _dtype(headers: list[Header]) -> np.dtype[Any]:
    """Return the smallest integers that hold all that may be stored and is meant; else floats."""
    lows, highs = [], []
    for header in headers:
        lines = {(plane.slope, plane.intercept) for plane in header.planes}
        whole = all(slope == 1 and intercept.is_integer() for slope, intercept in lines)
        if header.floats or header.table or not whole:
            return np.dtype(np.float32)
        low, high = _stored_range(header)
        lows.append(low + min(int(intercept) for _, intercept in lines))
        highs.append(high + max(int(intercept) for _, intercept in lines))
    fitting = (
        kind for kind in _WHOLE
        if np.iinfo(kind).min <= min(lows) and max(highs) <= np.iinfo(kind).max
    )  # fmt: skip
    return np.dtype(next(fitting, np.float32))
