"""Features of npy, npz and HDF5."""

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tests.data.sources.features import (
    RANDOM,
    File,
    Row,
)

KINDS = ("u1", "i1", "<u2", ">u2", "<i2", ">i2", "<u4", ">i4", "<i8", ">u8")
FLOATS = ("<f2", ">f2", "<f4", ">f4", "<f8", ">f8")
ROWS = RANDOM.integers(0, 128, (8, 6))
FRACTIONS = RANDOM.uniform(-50, 50, (8, 6))


def npy(x: np.ndarray, version: int = 1, fortran: bool = False) -> bytes:
    text = f"{{'descr': '{x.dtype.str}', 'fortran_order': {fortran}, 'shape': {x.shape}, }}"
    head = text.encode().ljust(117 if version == 1 else 115) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + x.tobytes("F" if fortran else "C")


def zipped(kind: int, zip64: bool = False) -> bytes:
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(stream, "w", kind) as archive,
        archive.open("arr_0.npy", "w", force_zip64=zip64) as member,
    ):
        member.write(npy(ROWS))
    return stream.getvalue()


def h5(fill: Callable[[h5py.File], object]) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            fill(file)

    return write


def data(x: Any, **options: Any) -> Callable[[Path], None]:
    return h5(lambda file: file.create_dataset("images", data=x, **options))


def scaled(file: h5py.File) -> None:
    file["images"] = ROWS
    file["images"].attrs.update(scale_factor=0.5, add_offset=3.0)


def virtual(gone: bool) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        if not gone:
            h5(lambda file: file.create_dataset("z", data=ROWS))(path.with_name("other.hdf"))
        layout = h5py.VirtualLayout(ROWS.shape, ROWS.dtype)
        layout[:] = h5py.VirtualSource("other.hdf", "z", ROWS.shape)
        h5(lambda file: file.create_virtual_dataset("images", layout))(path)

    return write


def partly(file: h5py.File) -> None:
    file.create_dataset("images", ROWS.shape, ROWS.dtype, chunks=(2, 6), fillvalue=9)[:4] = ROWS[:4]


def linked(file: h5py.File) -> None:
    file["z"] = ROWS
    file["images"] = h5py.SoftLink("/z")


NOT_NUMBERS = (ROWS > 60, ROWS * 1j, np.zeros((8, 6), [("a", "f4")]))
PACKED: list[dict[str, Any]] = [
    {"chunks": (3, 4)}, {"chunks": (3, 4), "compression": "gzip"}, {"compression": "lzf"},
    {"compression": "gzip", "shuffle": True, "fletcher32": True}, {"scaleoffset": 0},
]  # fmt: skip
ARRAY_ROWS = [
    Row("npy", "versions 1 to 3, C and Fortran order",
        lambda: [File(npy(ROWS, v, f), ROWS) for v in (1, 2, 3) for f in (False, True)],
        library="numpy"),
    Row("npy", "integers of 8 to 64 bits, floats of 16 to 64, both byte orders",
        lambda: [File(npy(ROWS.astype(k)), ROWS) for k in KINDS]
        + [File(npy(FRACTIONS.astype(k)), FRACTIONS.astype(k), off=1e-5) for k in FLOATS],
        library="numpy"),
    Row("npy", "bool, complex, records, strings, times, Python objects, other versions, no rows",
        lambda: [File(npy(x)) for x in NOT_NUMBERS[:2]] + [File(npy(ROWS, 4)), File(npy(ROWS[:0]))]
        + [File(lambda p, x=x: np.save(p, x)) for x in
           (NOT_NUMBERS[2], ROWS.astype("U3"), ROWS.astype("M8[s]"), ROWS.astype(object))],
        refused="holds (bool|complex|records|<U|datetime|pickled)|version 4.0|holds no data"),
    Row("npz", "stored, deflated and otherwise compressed members, zip64",
        lambda: [File(zipped(k), ROWS) for k in (0, 8, 12, 14)] + [File(zipped(0, True), ROWS)],
        library="numpy"),
    Row("HDF5", "integers of 8 to 64 bits, floats of 16 to 64, both byte orders",
        lambda: [File(data(ROWS.astype(k)), ROWS) for k in KINDS]
        + [File(data(FRACTIONS.astype(k)), FRACTIONS.astype(k), off=1e-5) for k in FLOATS],
        library="h5py"),
    Row("HDF5", "chunks, gzip, LZF, shuffle, checksums, scale-offset",
        lambda: [File(data(ROWS, **options), ROWS) for options in PACKED], library="h5py"),
    Row("HDF5", "links, arrays in groups, virtual datasets",
        lambda: [File(h5(linked), ROWS), File(virtual(False), ROWS),
                 File(h5(lambda f: f.create_dataset("a/b", data=ROWS)), ROWS,
                      {"column": "a/b"})]),
    Row("HDF5", "chunks that were never written, with a warning",
        lambda: [File(h5(partly), np.concatenate([ROWS[:4], np.full((4, 6), 9)]),
                      warns="missing chunks")], library="h5py"),
    Row("HDF5", "attributes scale_factor and add_offset of netCDF", lambda: [File(h5(scaled))],
        refused="with the attributes scale_factor=0.5 and add_offset=3.0"),
    Row("HDF5", "bool, complex, records, a scalar, no rows, an empty dataset, "
        "virtual datasets with missing files",
        lambda: [File(data(x)) for x in
                 (*NOT_NUMBERS, np.float32(3), ROWS[:0], h5py.Empty("f4"))]
        + [File(virtual(True))],
        refused=r"holds (bool|complex|\[|a scalar)|empty dataset|holds no data|hdf is missing"),
]  # fmt: skip
