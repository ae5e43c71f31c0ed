"""IDX files, as MNIST is stored, with the labels in the file beside them.

Format: http://yann.lecun.com/exdb/mnist (two zero bytes, a type, the number of axes, their lengths
as big-endian 32-bit integers, the numbers).
"""

import gzip
import re
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.label_tables import class_table
from iddpm.data.sources.npy import refuse_dense

IDX = ("-ubyte", "-int", ".idx", "-ubyte.gz", "-int.gz", ".idx.gz")
_TYPES = {8: "u1", 9: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def open_idx(path: Path, *, labels: str = "auto", **settings: Any) -> ArraySource:
    """Open an IDX file; ``auto`` takes the labels of its ``labels-idx1`` file for ``images-idx3``.

    Args:
        path: the file, plain or ``.gz``; a plain one is memory-mapped.
        labels: ``"auto"``, or ``"none"``.
        **settings: as for `iddpm.data.sources.arrays.ArraySource`.

    Raises:
        ValueError: a damaged file, or labels that do not fit.
    """
    if labels not in ("auto", "none"):
        raise ValueError(
            f"labels={labels!r} does not go with {path}; use 'auto' (the labels-idx1 file beside "
            "it) or 'none'"
        )
    array = read_idx(path)
    beside = _labels_of(path) if labels == "auto" else None
    numbers, names = None, tuple[str, ...]()
    if beside is not None:
        found = read_idx(beside)
        if found.shape != array.shape[:1] or found.dtype.kind not in "iu":
            raise ValueError(
                f"{beside} holds {found.dtype} of shape {found.shape}, which are no labels for the "
                f"{len(array)} items of {path.name}: set data.labels=none"
            )
        numbers, names = class_table([str(number) for number in found.tolist()])
    return ArraySource(
        array, name=path.name, labels=numbers, class_names=names, path=path, **settings
    )


def read_idx(path: Path) -> NDArray[Any]:
    """Return the array of an IDX file, mapped where it is not compressed.

    Raises:
        ValueError: no IDX file, or one that holds fewer or more numbers than it promises.
    """
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path) as file:
                shape, dtype, start = _header(path, file)
                nbytes = prod(shape) * dtype.itemsize
                refuse_dense(str(path), nbytes, path.stat().st_size)
                data = file.read(nbytes + 1)
            _refuse_length(path, len(data), nbytes)
            return np.frombuffer(data, dtype).reshape(shape)
        with path.open("rb") as file:
            shape, dtype, start = _header(path, file)
        _refuse_length(path, path.stat().st_size - start, prod(shape) * dtype.itemsize)
        return np.memmap(path, dtype, "r", start, shape)
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise
        raise ValueError(f"{path} is damaged ({error})") from None


def _header(path: Path, file: IO[bytes] | Any) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _TYPES or not start[3]:
        raise ValueError(f"{path} is not an IDX file: it starts with {start.hex() or 'nothing'}")
    lengths = file.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise ValueError(f"{path} is truncated in its header")
    shape = tuple(int(n) for n in np.frombuffer(lengths, ">u4"))
    if not prod(shape):
        raise ValueError(f"{path} has shape {shape}, which holds no data")
    return shape, np.dtype(_TYPES[start[2]]), 4 + len(lengths)


def _refuse_length(path: Path, found: int, promised: int) -> None:
    if found != promised:
        what = "is truncated" if found < promised else "holds more than it promises"
        raise ValueError(f"{path} {what}: its header promises {promised} bytes of numbers")


def _labels_of(path: Path) -> Path | None:
    """Return the file of labels that belongs to one of images, by its name."""
    name = re.sub(r"idx\d", "idx1", path.name.replace("images", "labels"))
    if name == path.name:
        return None
    plain = name.removesuffix(".gz")
    beside = [path.with_name(each) for each in (name, plain, f"{plain}.gz")]
    return next((file for file in beside if file.is_file()), None)
