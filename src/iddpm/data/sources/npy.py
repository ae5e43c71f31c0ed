"""Read .npy and .npz files without pickle, mapping what lies uncompressed on disk.

``numpy.load`` maps .npy files only; a .npz made by ``numpy.savez`` is a zip file whose members are
stored as they are, so each can be mapped at its offset.
"""

import io
import struct
import sys
import warnings
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.source import DENSEST
from iddpm.data.sources.zip_directory import open_zip

_LOCAL_HEADER = struct.Struct("<4s22xHH")  # signature, ..., length of name, length of extra field
_UNPACKED = 1 << 30
_DENSE = 100
"""Members above so many bytes may unpack to so many times their size at most."""
_SMALL = 1 << 16  # bytes below which a mapping is not worth a page


class PickledError(ValueError):
    """An array of Python objects."""


def map_npy(path: Path, offset: int = 0) -> NDArray[Any]:
    """Memory-map the .npy array that starts ``offset`` bytes into a file, read-only.

    Raises:
        ValueError: not a .npy array, cut short, or made of Python objects.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        shape, fortran_order, dtype = _read_header(path, file)
        start = file.tell()
    needed = start + dtype.itemsize * prod(shape)
    if path.stat().st_size < needed:
        raise ValueError(
            f"{path} is truncated: its header promises {needed} bytes and "
            f"{path.stat().st_size} are there; copy or save it again"
        )
    if needed == start:
        return np.empty(shape, dtype)  # nothing to map
    order: Any = "F" if fortran_order else "C"
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)


def parse_npy(data: bytes, name: str) -> NDArray[Any]:
    """Return the array of what a .npy file holds, read-only; errors as in `map_npy`."""
    return _read_array(name, io.BytesIO(data))


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of a .npz by name; large uncompressed ones are memory-mapped.

    Members that hold Python objects are never loaded: they are left out with a warning.

    Raises:
        ValueError: a damaged file, one that holds Python objects alone, or one whose compressed
            members promise more, each or together, than so many bytes can hold.
    """
    members: dict[str, NDArray[Any]] = {}
    objects: dict[str, PickledError] = {}
    try:
        with open_zip(path) as archive:
            arrays = [info for info in archive.infolist() if info.filename.endswith(".npy")]
            _refuse_dense_together(path, arrays)
            for info in arrays:
                name = info.filename.removesuffix(".npy")
                try:
                    members[name] = _read_member(path, archive, info)
                except PickledError as error:
                    objects[name] = error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(
            f"{path} is not a complete .npz file ({error}); copy or save it again"
        ) from error

    if objects and not members:
        raise next(iter(objects.values()))
    if objects:
        warnings.warn(
            f"{path.name}: skipped {', '.join(objects)}, which holds pickled Python objects",
            stacklevel=2,
        )
    return members


def _read_member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    if _is_mapped(info):
        return map_npy(path, _data_offset(path, info))
    refuse_dense(f"{path}: {info.filename}", info.file_size, info.compress_size)
    with archive.open(info) as file:
        return _read_array(f"{path}: {info.filename}", file)


def _is_mapped(info: zipfile.ZipInfo) -> bool:
    # A mapping skips the checksum, which would read the whole file.
    return info.compress_type == zipfile.ZIP_STORED and info.file_size >= _SMALL


def _refuse_dense_together(path: Path, arrays: list[zipfile.ZipInfo]) -> None:
    """Refuse members that promise too much together; they may name the same bytes."""
    loaded = [info for info in arrays if not _is_mapped(info)]
    held = min(sum(info.compress_size for info in loaded), path.stat().st_size)
    refuse_dense(str(path), sum(info.file_size for info in loaded), held)


def refuse_dense(name: str, promised: int, held: int, free: int | None = None) -> None:
    """Refuse compressed bytes that promise more than so many can hold, or too many.

    Args:
        name: for messages.
        promised: bytes after unpacking.
        held: bytes that are there.
        free: bytes that any may unpack to; by default 1 GiB.

    Raises:
        ValueError: says both sizes.
    """
    if promised > held * DENSEST:
        raise ValueError(
            f"{name} promises {promised} bytes, of which it holds {held}: it is damaged; save it "
            "again"
        )
    free = _UNPACKED if free is None else free
    if promised > max(free, held * _DENSE):
        raise ValueError(
            f"{name} promises {promised} bytes out of {held}: above {free >> 20} MiB, compressed "
            f"bytes may unpack to at most {_DENSE} times their size; save it without compression"
        )


def _read_array(name: str, file: IO[bytes]) -> NDArray[Any]:
    shape, fortran_order, dtype = _read_header(name, file)
    needed = dtype.itemsize * prod(shape)
    data = file.read(needed + 1)
    if len(data) != needed:
        raise ValueError(
            f"{name} is truncated, or holds more than its header promises; copy or save it again"
        )
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C")


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Return where a member's bytes start: its local header has an extra field of its own."""
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER.size)
    if len(header) < _LOCAL_HEADER.size or header[:4] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no local header for {info.filename}")
    _, name_length, extra_length = _LOCAL_HEADER.unpack(header)
    return int(info.header_offset + _LOCAL_HEADER.size + name_length + extra_length)


def _read_header(path: Path | str, file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
        elif version not in ((2, 0), (3, 0)):
            raise ValueError(f"version {version[0]}.{version[1]} of the format is unknown")
        else:  # (3, 0) differs from (2, 0) in the names of fields, and those are refused
            shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # numpy reads a header as Python: SyntaxError, TokenError, ...
        raise ValueError(f"{path} is not a numpy array file ({_first_line(error)})") from error
    if dtype.hasobject:
        raise PickledError(
            f"{path} holds pickled Python objects, which are never loaded; save one numeric array, "
            "such as numpy.stack(items)"
        )
    if dtype.fields is not None:
        raise ValueError(f"{path} holds records ({dtype}); save one numeric array")
    most = dtype.itemsize * prod(side for side in shape if side)
    if min(shape, default=0) < 0 or not 0 < most <= sys.maxsize:
        raise ValueError(f"{path} has an invalid header: {dtype} of shape {shape}")
    return shape, fortran_order, dtype


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
