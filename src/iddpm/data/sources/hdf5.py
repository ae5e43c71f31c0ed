"""Arrays in HDF5 files, read row by row."""

import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrays import ArraySource, data_key
from iddpm.data.sources.extras import needed
from iddpm.data.sources.source import DENSEST
from iddpm.data.values import Wanted

HDF5 = (".h5", ".hdf5")
_LABELS = ("labels", "y")
_SCALES = {"scale_factor": 1, "add_offset": 0}
"""Attributes by which netCDF (the CF conventions) scales numbers, and what changes none."""
_CHUNK = 1 << 26
"""Largest chunk of many rows, all of which are unpacked to read one; the last one is kept."""


class LazyRows:
    """A dataset of an HDF5 file, indexed as an array; each process opens the file for itself."""

    def __init__(self, path: Path, key: str) -> None:
        self._path, self._key = path, key
        self._open: Any = None
        data = self._data()
        _refuse_unreal(path, key, data)
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim
        self.nbytes = prod(self.shape) * self.dtype.itemsize
        real = not data.is_virtual and not data.external
        if real and self.nbytes > max(data.id.get_storage_size(), 1) * DENSEST:
            raise ValueError(
                f"{path} promises {self.nbytes} bytes in {key} and holds "
                f"{data.id.get_storage_size()}: the file is incomplete"
            )
        chunk = prod(data.chunks or ()) * self.dtype.itemsize
        if chunk > _CHUNK and data.chunks[0] > 1:
            raise ValueError(
                f"{path} stores {key} in chunks of {data.chunks[0]} rows, and reading one row "
                f"would decompress {chunk >> 20} MiB: write it with smaller chunks, such as "
                f"chunks={(1, *self.shape[1:])}"
            )

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(
        self, rows: slice | tuple[slice, ...] | Sequence[int] | NDArray[np.int64]
    ) -> NDArray[Any]:
        if isinstance(rows, slice | tuple):
            return np.asarray(self._read(rows))
        distinct, inverse = np.unique(np.asarray(rows), return_inverse=True)  # h5py wants them so
        return np.asarray(self._read(distinct))[inverse]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _read(self, rows: Any) -> Any:
        try:
            return self._data()[rows]
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{self._path} is damaged in {self._key} ({error})") from None

    def _data(self) -> Any:
        if self._open is None:
            self._open = _opened(self._path)
        return self._open[self._key]


def open_hdf5(
    path: Path,
    *,
    layout: str | None = None,
    labels: str = "auto",
    value_range: Wanted = None,
    channels: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    column: str | None = None,
) -> ArraySource:
    """Open an HDF5 file, whose datasets are named as the members of a .npz.

    ``column`` names another, also one in a group, such as ``train/images``.

    Raises:
        ValueError: a damaged file, or one without an array that can be used.
    """
    if labels not in ("auto", "none"):
        raise ValueError(f"labels={labels!r} does not go with {path}; use 'auto' or 'none'")
    try:
        rows, members, label_key = _parts(path, column)
        known = None
        if labels == "auto" and label_key is not None:
            found = members[label_key]
            if found.shape not in (rows.shape[:1], (len(rows), 1)):
                raise ValueError(f"{path} has labels of shape {found.shape} for {len(rows)} items")
            LazyRows(path, label_key)  # refuses promises of more than is there
            known = found.asstr()[:] if found.dtype.kind == "O" else found[:]
            known = np.array([str(k) for k in known.ravel()]) if known.dtype.kind == "O" else known
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    array: Any = rows
    return ArraySource(
        array,
        name=path.name,
        layout=layout,
        labels=known,
        channels=channels,
        image_size=image_size,
        path=path,
        value_range=value_range,
    )


def open_dataset(path: Path, column: str | None) -> LazyRows:
    """Open the dataset of a file that holds one item, found as `open_hdf5` finds it.

    Raises:
        ValueError: a damaged file, or one without an array that can be used.
    """
    try:
        return _parts(path, column)[0]
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None


def _parts(path: Path, column: str | None) -> tuple[LazyRows, dict[str, Any], str | None]:
    """Return the data, the datasets that can be reached by name, and the name of the labels."""
    file = _opened(path)
    h5py = needed("h5py", "hdf5", f"reading {path}")
    members = {k: v for k in file if isinstance(v := file.get(k), h5py.Dataset)}
    if column is not None and isinstance(inside := file.get(column), h5py.Dataset):
        members[column] = inside
    elif column is not None or not members:
        _refuse_groups(path, file, column)
    label_key = next((key for key in _LABELS if key in members and key != column), None)
    rows = LazyRows(path, data_key(path, members, label_key, column))
    if not rows.ndim:
        raise ValueError(f"{path} holds a scalar and no rows")
    return rows, members, label_key


def _refuse_unreal(path: Path, key: str, data: Any) -> None:
    """Refuse numbers that stand for others, and those that lie in files that are gone.

    HDF5 fills in what it does not find, which is warned of where it was never written.
    """
    if data.shape is None:
        raise ValueError(f"{path} has an empty dataset in {key}")
    scale = {name: data.attrs[name] for name in _SCALES if name in data.attrs}
    if any(np.any(np.asarray(scale.get(name, unit)) != unit) for name, unit in _SCALES.items()):
        words = " and ".join(f"{name}={value}" for name, value in scale.items())
        raise ValueError(
            f"{path} scales the numbers in {key} with the attributes {words}: save the scaled "
            "numbers, value * scale_factor + add_offset"
        )
    if data.is_virtual:
        names = {source.file_name for source in data.virtual_sources()} - {"."}
        lost = sorted(name for name in names if not (path.parent / name).is_file())
        if lost:
            raise ValueError(
                f"{path} takes {key} from other files, and {lost[0]} is missing: restore it, "
                "or copy the numbers into one file"
            )
    elif data.chunks:
        blocks = prod(-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True))
        written = data.id.get_num_chunks()
        if 0 < written < blocks:
            warnings.warn(
                f"{path} holds {written} of the {blocks} chunks of {key}; missing chunks are "
                f"read as {data.fillvalue}",
                stacklevel=4,
            )


def _refuse_groups(path: Path, file: Any, column: str | None) -> None:
    """Refuse a file whose arrays lie in groups by their names; return where none do."""
    h5py = needed("h5py", "hdf5", f"reading {path}")
    inside: list[str] = []

    def look(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset):
            inside.append(name)

    file.visititems(look)
    if any("/" in name for name in inside):
        more = f" and {len(inside) - 12} more" if len(inside) > 12 else ""
        what = "its arrays in groups" if column is None else f"no array {column!r}"
        raise ValueError(
            f"{path} holds {what}: select the data with -s data.column= and one of "
            f"{', '.join(inside[:12])}{more}"
        )


def read_members(path: Path) -> dict[str, NDArray[Any]]:
    """Return the datasets of one axis in an HDF5 file, those in groups as ``group/name``.

    Raises:
        ValueError: a damaged file.
    """
    file = _opened(path)
    h5py = needed("h5py", "hdf5", f"reading {path}")
    found: dict[str, NDArray[Any]] = {}

    def look(name: str, member: Any) -> None:
        if isinstance(member, h5py.Dataset) and member.ndim == 1:
            words = h5py.check_string_dtype(member.dtype) is not None
            found[name] = np.array(member.asstr()[:], dtype=np.str_) if words else member[:]

    try:
        file.visititems(look)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    return found


def _opened(path: Path) -> Any:
    h5py = needed("h5py", "hdf5", f"reading {path}")
    try:
        return h5py.File(path, "r", rdcc_nbytes=_CHUNK)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is not an HDF5 file that can be read ({error})") from None
