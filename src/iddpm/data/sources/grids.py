"""NetCDF files and Zarr stores, read by xarray as CF conventions decode them, part by part."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrays import ArraySource, data_key
from iddpm.data.sources.extras import needed
from iddpm.data.sources.layouts import LAYOUTS
from iddpm.data.sources.netcdf3 import missing_bytes
from iddpm.data.sources.source import DENSEST

NETCDF, ZARR = (".nc", ".nc4", ".cdf", ".netcdf"), (".zarr",)
_LABELS = ("labels", "label", "y")
_AXES = {
    "W": ("lon", "longitude", "x", "width", "nx", "xc", "rlon", "easting", "cols"),
    "H": ("lat", "latitude", "y", "height", "ny", "yc", "rlat", "northing", "rows"),
    "D": ("lev", "level", "plev", "depth", "z", "altitude", "pressure_level", "nz", "zc"),
    "C": ("channel", "channels", "band", "bands", "c", "variable", "feature", "component"),
    "L": ("time", "t", "sample", "samples"),
}
"""What the axes after the first mean by their names; the first runs through the items."""
_FREE = 1 << 30
"""Bytes that a variable may have, whatever its file holds: what was never written takes none."""
_METADATA = (".zarray", ".zgroup", ".zmetadata", "zarr.json")


class GridRows:
    """A variable of a data set, indexed as an array; each process opens the file for itself."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._open: tuple[int, Any] | None = None
        variable = self._variable()
        self.dims = tuple(map(str, variable.dims))
        self.units = str(variable.attrs.get("units", ""))
        self.shape, self.dtype, self.ndim = variable.shape, variable.dtype, variable.ndim
        self.nbytes = prod(self.shape) * self.dtype.itemsize
        stored = _stored(path)
        if self.nbytes > max(_FREE, stored * DENSEST):
            raise ValueError(
                f"{path} promises {self.nbytes} bytes in {name} and holds {stored}: the file is "
                "incomplete"
            )

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        where = rows if isinstance(rows, tuple) else (rows,)
        variable = self._variable()
        try:
            found = variable.isel(dict(zip(variable.dims, where, strict=False))).values
        except Exception as error:  # each library below raises its own
            raise ValueError(f"{self._path} is damaged in {self._name} ({_line(error)})") from None
        return np.asarray(found)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def _variable(self) -> Any:
        if self._open is None or self._open[0] != os.getpid():
            group, _, name = self._name.rpartition("/")
            self._open = os.getpid(), _opened(self._path, group)[name]
        return self._open[1]


def open_grid(
    path: Path,
    *,
    labels: str = "auto",
    layout: str | None = None,
    column: str | None = None,
    **settings: Any,
) -> ArraySource:
    """Open a NetCDF file or a Zarr store whose items run along the first axis of a variable.

    Numbers are as the attributes scale_factor, add_offset and _FillValue say, NaN where they are
    missing. The names of the axes tell the layout where they are known.

    Args:
        path: the file, or the folder of a store.
        labels: ``"auto"`` takes the variable ``labels``, ``label`` or ``y`` of one axis, ``"none"``
            none.
        layout: see `ArraySource`.
        column: the variable; one in a group is ``group/name``.
        **settings: as for `ArraySource`.

    Raises:
        ValueError: a damaged file, or variables whose meaning is not clear.
    """
    if labels not in ("auto", "none"):
        raise ValueError(f"labels={labels!r} does not go with {path}; use 'auto' or 'none'")
    rows, classes = _found(path, column)
    if layout is None:
        layout = _layout(path, rows)
    array: Any = rows
    source = ArraySource(
        array,
        name=path.name,
        layout=layout,
        labels=classes if labels == "auto" else None,
        path=path if path.is_file() else None,
        **settings,
    )
    if rows.units:
        source.form = replace(source.form, units=(rows.units,))
    return source


def open_grid_item(path: Path, column: str | None) -> GridRows:
    """Open the variable of a file that holds one item, found as `open_grid` finds it."""
    return _found(path, column)[0]


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr store."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def _found(path: Path, column: str | None) -> tuple[GridRows, NDArray[Any] | None]:
    """Return the variable with the data, and the classes of its items where there are some."""
    group = column.rpartition("/")[0] if column is not None else ""
    data = _opened(path, group)
    prefix = f"{group}/" if group else ""
    bounds = {str(v.attrs.get("bounds")) for v in data.variables.values()}
    variables = {
        f"{prefix}{name}": variable
        for name, variable in data.data_vars.items()
        if variable.dtype.kind in "iuf" and variable.ndim and name not in bounds
    }
    label_key = next(
        (k for name in _LABELS if (k := prefix + name) in variables and k != column
         and variables[k].ndim == 1), None
    )  # fmt: skip
    large = {k: v for k, v in variables.items() if v.ndim > 1 or k == column}
    if not variables:
        inside = ", ".join(_groups(path))
        raise ValueError(
            f"{path} holds no array of numbers"
            + (f"; select one in a group with data.column, such as {inside}" if inside else "")
        )
    key = data_key(path, large or variables, label_key, column)
    rows = GridRows(path, key)
    classes = None
    if label_key is not None and variables[label_key].dims[0] == rows.dims[0]:
        classes = np.asarray(variables[label_key].values)
    return rows, classes


def _layout(path: Path, rows: GridRows) -> str | None:
    """Return the layout that the names of the axes tell; None where they do not."""
    letters = [
        next((axis for axis, names in _AXES.items() if name.lower() in names), "?")
        for name in rows.dims
    ]
    if letters[0] in ("W", "H") and rows.ndim < 4:
        raise ValueError(
            f"{path} holds a variable of the axes {', '.join(rows.dims)}, none of which runs "
            "through items: set -s data.layout, such as NHW, if the first does"
        )
    layout = "N" + "".join(letters[1:])
    return layout if layout in LAYOUTS else None


def _opened(path: Path, group: str) -> Any:
    """Return the data set in a file, or in a group of it, not read yet."""
    xarray: Any = needed("xarray", "netcdf" if path.is_file() else "zarr", f"reading {path}")
    options: dict[str, Any] = {"decode_times": False, "cache": False, "chunks": None}
    try:
        if path.is_file():
            needed("netCDF4", "netcdf", f"reading {path}")
            missing = missing_bytes(path)
            if missing:
                raise ValueError(f"{path} is truncated: {missing} of its bytes are missing")
            return xarray.open_dataset(path, engine="netcdf4", group=group or None, **options)
        zarr = needed("zarr", "zarr", f"reading {path}")
        _refuse_pickles(path)
        try:
            return xarray.open_dataset(path, engine="zarr", group=group or None, **options)
        except (KeyError, ValueError, TypeError):  # an array, or arrays without names of axes
            return _Unnamed(xarray, zarr.open(str(path), mode="r", path=group or None))
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # OSError of netCDF4, and each library's own
        if isinstance(error, ValueError) and str(error).startswith(str(path)):
            raise
        kind = "NetCDF file" if path.is_file() else "Zarr store"
        raise ValueError(f"{path} is not a {kind} that can be read ({_line(error)})") from None


class _Unnamed:
    """The arrays of a Zarr group, or the only one, with axes that have no names."""

    def __init__(self, xarray: Any, store: Any) -> None:
        arrays = dict(store.arrays()) if hasattr(store, "arrays") else {"array": store}
        lazy = xarray.core.indexing.LazilyIndexedArray
        self.variables = {
            name: xarray.Variable(
                [f"axis_{k}" for k in range(array.ndim)],
                lazy(xarray.backends.zarr.ZarrArrayWrapper(array)),
            )
            for name, array in arrays.items()
        }
        self.data_vars: Mapping[str, Any] = self.variables

    def __getitem__(self, name: str) -> Any:
        return self.variables[name]


def _refuse_pickles(store: Path) -> None:
    """Refuse a store whose chunks would be unpickled, which would run what they say."""
    for folder, _, files in os.walk(store):
        for name in set(files) & {*_METADATA}:
            path = Path(folder) / name
            try:
                content = json.loads(path.read_bytes())
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path} is damaged ({error})") from None
            if any("pickle" in word.lower() for word in _words(content)):
                raise ValueError(f"{path} holds pickled Python objects, which are never loaded")


def _words(content: Any) -> Iterator[str]:
    """Yield the names of codecs in metadata."""
    todo = [content]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            todo += value.values()
            yield from (v for k, v in value.items() if k in ("id", "name") and isinstance(v, str))
        elif isinstance(value, list):
            todo += value


def _groups(path: Path) -> Sequence[str]:
    """Return the groups of a file that hold something."""
    if path.is_dir():
        return sorted(p.name for p in path.iterdir() if is_zarr(p))[:12]
    netcdf: Any = needed("netCDF4", "netcdf", f"reading {path}")
    with netcdf.Dataset(path) as file:
        return [f"{name}/{v}" for name, g in file.groups.items() for v in g.variables][:12]


def _stored(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
