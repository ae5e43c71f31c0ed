"""MATLAB files of all versions, with their axes in MATLAB's order whichever version holds them.

Up to version 7.2 they are read by scipy, whole; 7.3 is HDF5 with its axes reversed, read by h5py
where it is needed. Format: MathWorks, "MAT-File Level 5 File Format".
"""

import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrays import LABEL_KEYS, ArraySource, data_key
from iddpm.data.sources.extras import needed
from iddpm.data.sources.hdf5 import LazyRows
from iddpm.data.sources.label_tables import class_table
from iddpm.data.sources.layouts import LAYOUTS, PICTURE_CHANNELS
from iddpm.data.sources.npy import refuse_dense
from iddpm.data.values import Wanted

MAT = (".mat",)
_NUMBERS = re.compile(r"u?int\d+|double|single|logical")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_COMPRESSED = 15  # the type of a compressed element
_LAST = tuple(f"{layout[1:]}N" for layout in LAYOUTS)


def open_mat(
    path: Path,
    *,
    labels: str = "auto",
    layout: str | None = None,
    column: str | None = None,
    value_range: Wanted = None,
    **settings: Any,
) -> ArraySource:
    """Open a MATLAB file whose variables are named as the members of a .npz.

    Args:
        path: the file.
        labels: ``"auto"`` takes the variable ``labels`` or ``y``, ``"none"`` none; else the name of
            one. Whole numbers of any class, from 1 or 0 on, name the classes.
        layout: of `LAYOUTS`, or one of these with N last, such as ``HWCN``. By default the labels,
            or an axis of colors before the last, tell which axis N is.
        column: the variable with the data; ``s.images`` is a field of the struct ``s``.
        value_range: see `iddpm.data.values.find_values`; logical arrays have 0 to 1.
        **settings: as for `ArraySource`.

    Raises:
        ValueError: a damaged file, or variables that are no arrays of real numbers.
    """
    variables = _variables(path)
    label_key = next((key for key in LABEL_KEYS if key in variables and key != column), None)
    if labels not in ("auto", "none"):
        label_key = labels
        if labels not in variables:
            raise ValueError(
                f"labels={labels!r} does not go with {path}; use 'auto', 'none' or a variable: "
                f"{', '.join(variables)}"
            )
    key = data_key(path, _candidates(path, variables, label_key, column), label_key, column)
    known = None if labels == "none" or label_key is None else _labels(path, variables[label_key])
    variable = variables[key]
    shape = variable.shape
    last = _is_last(shape, layout, None if known is None else len(known))
    numbers, names = (None, ()) if known is None else class_table(known)
    if variable.logical and value_range is None:
        value_range = (0, 1)
    return ArraySource(
        variable.rows(last),
        name=path.name,
        layout=f"N{layout[:-1]}" if layout in _LAST else layout if not last else _guess(shape),
        labels=numbers,
        class_names=names,
        path=path,
        value_range=value_range,
        **settings,
    )


def open_mat_item(path: Path, column: str | None) -> NDArray[Any]:
    """Return the array of a file that holds one item, found as `open_mat` finds it."""
    variables = _variables(path)
    key = data_key(path, _candidates(path, variables, None, column), None, column)
    array = variables[key].rows(last=False)
    return np.asarray(array[:]) if isinstance(array, LazyRows) else array


class _Variable:
    """An array of real numbers in a file of version 4 to 7.2, its axes as MATLAB has them."""

    def __init__(self, path: Path, name: str, shape: tuple[int, ...], logical: bool) -> None:
        self.path, self.name, self.shape, self.logical = path, name, shape, logical

    def read(self) -> NDArray[Any]:
        """Return the whole array; logical as uint8."""
        top, *fields = self.name.split(".")
        value: Any = _load(self.path, top)
        for each in fields:
            value = value[each].item()
        if hasattr(value, "toarray"):  # of logical ones the class alone is listed
            raise ValueError(f"{self.path} holds {self.name} (sparse): save full({self.name})")
        array = np.asarray(value)
        return array.astype(np.uint8) if array.dtype.kind == "b" else array

    def rows(self, last: bool) -> Any:
        """Return the array with its last axis first where that runs through the items."""
        array = self.read()
        return np.ascontiguousarray(np.moveaxis(array, -1, 0)) if last else array


class _Variable73(_Variable):
    """An array in a file of version 7.3, which `rows` leaves on the disk."""

    def read(self) -> NDArray[Any]:
        return np.asarray(self.rows(last=False)[:])

    def rows(self, last: bool) -> Any:
        return _ReversedRows(self.path, self.name.replace(".", "/"), last)


class _ReversedRows(LazyRows):
    """A dataset whose axes run as MATLAB's do, or with the last of them first."""

    def __init__(self, path: Path, key: str, last: bool) -> None:
        super().__init__(path, key)
        stored = self.shape[::-1]
        self._last = last
        self.shape = (stored[-1], *stored[:-1]) if last else stored

    def _read(self, rows: Any) -> Any:
        if self._last:
            found = super()._read(rows)
            return found.transpose(0, *range(found.ndim - 1, 0, -1))
        return super()._read((..., rows)).T


def _variables(path: Path) -> dict[str, _Variable]:
    """Return the arrays of real numbers in a file, fields of structs as ``struct.field``.

    Raises:
        ValueError: no MATLAB file, a damaged one, or one without such arrays.
    """
    with path.open("rb") as file:
        start = file.read(520)
    if start.startswith(_HDF5) or start[512:] == _HDF5:
        found, others = _variables_73(path)
    else:
        found, others = _variables_5(path)
    if not found:
        held = ", ".join(f"{name} ({kind})" for name, kind in others.items()) or "nothing"
        raise ValueError(
            f"{path} holds {held}, and no array of real numbers: save one, such as full(x) of a "
            "sparse or cat(3, c{:}) of a cell array"
        )
    return found


def _variables_5(path: Path) -> tuple[dict[str, _Variable], dict[str, str]]:
    scipy: Any = needed("scipy.io", "mat", f"reading {path}")
    _refuse_dense_elements(path)
    found: dict[str, _Variable] = {}
    others: dict[str, str] = {}
    try:
        listed = scipy.whosmat(str(path), appendmat=False)
    except Exception as error:  # scipy raises MatReadError, ValueError, struct.error, zlib.error...
        raise ValueError(f"{path} is not a MATLAB file that can be read ({_line(error)})") from None
    for name, shape, kind in listed:
        if name.startswith("__"):  # such as __function_workspace__, which scipy lists too
            continue
        if _NUMBERS.fullmatch(kind):
            refuse_dense(f"{path}: {name}", prod(shape), path.stat().st_size)
            found[name] = _Variable(path, name, tuple(shape), kind == "logical")
        elif kind == "struct" and prod(shape) == 1:
            found |= {v.name: v for v in _fields(path, name)}
            others[name] = kind
        else:
            others[name] = kind
    return found, others


def _fields(path: Path, name: str) -> Iterator[_Variable]:
    """Yield the arrays in a struct, and in structs inside it."""
    open_structs: list[tuple[str, Any]] = [(name, _load(path, name))]
    while open_structs:
        title, struct = open_structs.pop()
        for field in struct.dtype.names or ():
            value = struct[field].item()
            inside = f"{title}.{field}"
            if isinstance(value, np.ndarray) and value.dtype.names and value.size == 1:
                open_structs.append((inside, value))
            elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                yield _Variable(path, inside, value.shape, value.dtype.kind == "b")


def _load(path: Path, name: str) -> Any:
    """Return a variable with the numbers in its own class, and not in that which it is packed in.

    MATLAB packs a double array of small whole numbers as bytes, which version 7.3 does not. scipy
    drops imaginary parts if the class is requested, so complex ones are read as they are.
    """
    scipy: Any = needed("scipy.io", "mat", f"reading {path}")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found = scipy.loadmat(
                str(path), variable_names=[name], mat_dtype=True, appendmat=False
            )[name]  # fmt: skip
        if any(issubclass(warned.category, np.exceptions.ComplexWarning) for warned in caught):
            found = scipy.loadmat(str(path), variable_names=[name], appendmat=False)[name]
        return found
    except Exception as error:  # as above; KeyError where the end is missing
        raise ValueError(f"{path} is damaged in {name} ({_line(error)})") from None


def _refuse_dense_elements(path: Path) -> None:
    """Refuse compressed variables that promise more than they can hold, before they are read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(128)
        if start[126:128] not in (b"IM", b"MI"):
            return  # version 4, which is never compressed
        order = "<u4" if start[126:128] == b"IM" else ">u4"
        while len(tag := file.read(8)) == 8:
            kind, nbytes = map(int, np.frombuffer(tag, order))
            end = file.tell() + nbytes
            if end > size:
                raise ValueError(
                    f"{path} is truncated: a variable ends at {end} of its {size} bytes"
                )
            if kind == _COMPRESSED:
                try:
                    inside = zlib.decompressobj().decompress(file.read(min(nbytes, 256)), 8)
                except zlib.error as error:
                    raise ValueError(f"{path} is damaged ({error})") from None
                if len(inside) == 8:
                    refuse_dense(str(path), int(np.frombuffer(inside, order)[1]), nbytes)
            file.seek(end)


def _variables_73(path: Path) -> tuple[dict[str, _Variable], dict[str, str]]:
    h5py: Any = needed("h5py", "mat", f"reading {path}")
    found: dict[str, _Variable] = {}
    others: dict[str, str] = {}

    def look(name: str, member: Any) -> None:
        if name.startswith("#"):  # where MATLAB keeps what cells refer to
            return
        kind = member.attrs.get("MATLAB_class", b"")
        kind = kind.decode("ascii", "replace") if isinstance(kind, bytes) else str(kind)
        title = name.replace("/", ".")
        if not isinstance(member, h5py.Dataset) or "MATLAB_sparse" in member.attrs:
            others[title] = "sparse" if "MATLAB_sparse" in member.attrs else kind or "group"
        elif _NUMBERS.fullmatch(kind or "double") and member.dtype.kind in "biuf":
            inside_sparse = "MATLAB_sparse" in member.parent.attrs
            if "MATLAB_empty" not in member.attrs and not inside_sparse:
                shape = tuple(member.shape[::-1])
                found[title] = _Variable73(path, title, shape, kind == "logical")
        else:
            others[title] = "complex" if member.dtype.names else kind

    try:
        with h5py.File(path, "r") as file:
            file.visititems(look)
    except (OSError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a MATLAB file that can be read ({_line(error)})") from None
    return found, others


def _candidates(
    path: Path, variables: dict[str, _Variable], label_key: str | None, column: str | None
) -> dict[str, _Variable]:
    """Return what can be the data: no scalars, and vectors only where there is nothing else."""
    several = {k: v for k, v in variables.items() if prod(v.shape) > 1 or k == column}
    arrays = {k: v for k, v in several.items() if min(v.shape) > 1 or k in (column, label_key)}
    if arrays.keys() - {label_key}:
        return arrays
    return several or variables


def _labels(path: Path, variable: _Variable) -> list[str]:
    numbers = variable.read().ravel()
    if numbers.size != max(variable.shape) or (numbers != np.trunc(numbers)).any():
        raise ValueError(
            f"{path} holds {variable.name} of shape {variable.shape}, which are no labels: whole "
            "numbers in a row or a column are; set data.labels=none, or to another variable"
        )
    return [str(int(number)) for number in numbers]


def _is_last(shape: Sequence[int], layout: str | None, count: int | None) -> bool:
    """Say whether the items run along the last axis."""
    if layout is not None:
        return layout in _LAST
    if count is not None:
        return shape[0] != count and shape[-1] == count
    return (
        len(shape) == 4
        and shape[2] in PICTURE_CHANNELS
        and not {shape[1], shape[3]} & {*PICTURE_CHANNELS}
    )


def _guess(shape: Sequence[int]) -> str | None:
    """Return the layout of an array with its last axis moved to the front, if colors tell it."""
    return "NHWC" if len(shape) == 4 and shape[2] in PICTURE_CHANNELS else None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
