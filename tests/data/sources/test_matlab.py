"""MATLAB files of versions 4 to 7.3: one array whichever version holds it."""

import shutil
import struct
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse

from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (6, 9, 3, 5)).astype(np.uint8)  # H, W, C, N as MATLAB's users have it
CLASSES = {"u1": b"uint8", "i2": b"int16", "f8": b"double", "f4": b"single", "b1": b"logical"}


def write_73(path, members):
    """A file as MATLAB's -v7.3 has it: HDF5 with a line of text in front, and the axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, x in members.items():
            if isinstance(x, dict):
                group = file.create_group(name)
                group.attrs["MATLAB_class"] = np.bytes_(b"struct")
                where, inside = group, x
            else:
                where, inside = file, {name: x}
            for key, value in inside.items():
                array = np.atleast_2d(value)
                stored = array.T.astype(np.uint8) if array.dtype == bool else array.T
                data = where.create_dataset(key, data=stored)
                data.attrs["MATLAB_class"] = np.bytes_(CLASSES[array.dtype.str[1:]])
    content = bytearray(path.read_bytes())
    content[:128] = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    path.write_bytes(content)


def write(path, version, members):
    if version == "7.3":
        write_73(path, members)
    else:
        kind = "4" if version == "4" else "5"
        scipy.io.savemat(path, members, format=kind, do_compression=version == "7")


def stored(source):
    items = to_model_range(source.read_many(range(len(source))), source.bits)
    return source.form.values.restore(items)


VERSIONS = ["5", "7", "7.3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_items_on_the_last_axis_with_classes_from_one(tmp_path, version):
    write(tmp_path / "a.mat", version, {"X": X, "y": np.array([[3], [1], [10], [1], [3.0]])})
    for settings in ({}, {"layout": "HWCN"}):
        source = open_source(tmp_path / "a.mat", **settings)
        assert (source.shape, source.bits) == ((3, 6, 9), 8)
        assert (list(source.labels), source.class_names) == ([1, 0, 2, 0, 1], ("1", "3", "10"))
        assert np.array_equal(source.read_many([4, 0, 2]), X.transpose(3, 2, 0, 1)[[4, 0, 2]])
    assert open_source(tmp_path / "a.mat", labels="none").labels is None


@pytest.mark.parametrize("version", ["4", *VERSIONS])
@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8"])
def test_rows_in_the_dtype_that_they_have(tmp_path, version, kind):
    rows = (np.arange(60).reshape(5, 12) * 3 + 7).astype(kind)
    write(tmp_path / "a.mat", version, {"fea": rows, "fs": np.array([[250.0]])})
    source = open_source(tmp_path / "a.mat")
    expected = scipy.io.loadmat(tmp_path / "a.mat")["fea"] if version != "7.3" else rows
    assert np.abs(stored(source)[:, 0] - expected.astype(float)).max() <= (
        1e-4 if kind[0] == "f" else 0
    )
    assert source.bits == (None if kind[0] == "f" else 8)


def packed_double(path, numbers):
    """A double array of small whole numbers, which MATLAB packs as bytes."""

    def element(kind, content):
        return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)

    matrix = element(6, struct.pack("<II", 6, 0)) + element(5, struct.pack("<ii", *numbers.shape))
    matrix += element(1, b"x") + element(2, numbers.astype(np.uint8).tobytes(order="F"))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(head + element(14, matrix))


def test_doubles_that_are_packed_as_bytes_are_doubles_in_each_version(tmp_path):
    numbers = np.arange(24.0).reshape(4, 6)
    packed_double(tmp_path / "a.mat", numbers)
    write_73(tmp_path / "b.mat", {"x": numbers})
    assert scipy.io.loadmat(tmp_path / "a.mat")["x"].dtype == np.uint8
    one, other = open_source(tmp_path / "a.mat"), open_source(tmp_path / "b.mat")
    assert one.bits is other.bits is None
    assert np.abs(stored(one)[:, 0] - numbers).max() < 1e-5
    assert np.array_equal(one.read_many(range(4)), other.read_many(range(4)))


@pytest.mark.parametrize("version", VERSIONS)
def test_logical_arrays_have_one_bit(tmp_path, version):
    mask = RANDOM.random((5, 8, 6)) > 0.5
    write(tmp_path / "a.mat", version, {"mask": mask})
    source = open_source(tmp_path / "a.mat", layout="NHW")
    assert source.bits == 1
    assert np.array_equal(stored(source)[:, 0], mask)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_field_of_a_struct_is_named(tmp_path, version):
    s = {"rows": np.arange(12.0).reshape(3, 4), "more": np.arange(6.0).reshape(2, 3)}
    write(tmp_path / "a.mat", version, {"s": s})
    with pytest.raises(ValueError, match=r"holds the arrays s\.\w+, s\.\w+"):
        open_source(tmp_path / "a.mat")
    source = open_source(tmp_path / "a.mat", column="s.rows")
    assert np.abs(stored(source)[:, 0] - s["rows"]).max() < 1e-5


@pytest.mark.parametrize("version", VERSIONS)
def test_labels_of_any_name(tmp_path, version):
    write(tmp_path / "a.mat", version, {"fea": np.arange(8.0).reshape(4, 2), "gnd": [[2, 1, 1, 2]]}
          if version != "7.3" else {"fea": np.arange(8.0).reshape(4, 2),
                                    "gnd": np.array([[2.0, 1, 1, 2]])})  # fmt: skip
    source = open_source(tmp_path / "a.mat", labels="gnd", column="fea")
    assert list(source.labels) == [1, 0, 0, 1]
    with pytest.raises(ValueError, match="use 'auto', 'none' or a variable: fea, gnd"):
        open_source(tmp_path / "a.mat", labels="nope")


def test_what_is_no_array_of_real_numbers_is_refused(tmp_path):
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.arange(3), np.arange(4)
    for name, value in {
        "sparse": scipy.sparse.eye(4).tocsc(), "cell": cells, "char": "words",
    }.items():  # fmt: skip
        scipy.io.savemat(tmp_path / "a.mat", {"x": value})
        with pytest.raises(ValueError, match=rf"holds x \({name}\), and no array of real numbers"):
            open_source(tmp_path / "a.mat")
    scipy.io.savemat(tmp_path / "a.mat", {"x": np.ones((3, 4)) * 1j})
    with pytest.raises(ValueError, match=r"complex128.*save real and imaginary parts"):
        open_source(tmp_path / "a.mat")


@pytest.mark.parametrize("version", ["4", *VERSIONS])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.6, 0.95])
def test_a_cut_file_is_one_sentence(tmp_path, version, kept):
    write(tmp_path / "a.mat", version, {"x": RANDOM.random((40, 30))})
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"a\.mat") as caught:
        open_source(tmp_path / "a.mat").read_many(range(40))
    assert "\n" not in str(caught.value)


def test_a_variable_that_unpacks_to_far_more_than_it_holds_is_refused(tmp_path):
    packed_double(tmp_path / "a.mat", np.zeros((2, 3)))
    content = (tmp_path / "a.mat").read_bytes()
    inside = bytearray(content[128:])
    inside[4:8] = struct.pack("<I", 1 << 31)
    packed = zlib.compress(bytes(inside))
    (tmp_path / "a.mat").write_bytes(content[:128] + struct.pack("<II", 15, len(packed)) + packed)
    with pytest.raises(ValueError, match=r"a\.mat promises 2147483648 bytes"):
        open_source(tmp_path / "a.mat")


SHIPPED = Path(scipy.io.__file__).parent / "matlab/tests/data"


@pytest.mark.parametrize(
    ("file", "name"),
    [(f"test{name}_{version}.mat", f"test{name}") for name in ("matrix", "double", "minus")
     for version in ("4.2c_SOL2", "6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86")]
    + [("test_skip_variable.mat", "first"), ("big_endian.mat", "floats")],
)  # fmt: skip
def test_files_that_matlab_wrote(tmp_path, file, name):
    """Those that scipy ships, value for value."""
    shutil.copy(SHIPPED / file, tmp_path / "a.mat")
    expected = scipy.io.loadmat(SHIPPED / file)[name].astype(np.float64)
    source = open_source(tmp_path / "a.mat", column=name, value_range=(-10.0, 10.0))
    assert np.abs(source.read_many(range(len(source)))[:, 0] * 10 - expected).max() < 1e-5


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("malformed1.mat", "is truncated: a variable ends at 658976"),
        ("corrupted_zlib_checksum.mat", "incorrect data check"),
        ("corrupted_zlib_data.mat", "is damaged in datagrid"),
        ("debigged_m4.mat", "promises 402653184 bytes"),
        ("parabola.mat", r"holds parabola \(function\), and no array"),
        ("logical_sparse.mat", r"sparse"),
        ("testsparse_7.4_GLNX86.mat", r"testsparse \(sparse\)"),
        ("testcell_7.4_GLNX86.mat", r"testcell \(cell\)"),
        ("testobject_7.4_GLNX86.mat", r"testobject \(object\)"),
        ("testcomplex_7.4_GLNX86.mat", "save real and imaginary parts"),
    ],
)
def test_files_of_matlab_that_hold_no_rows_are_one_sentence(file, message):
    with pytest.raises(ValueError, match=message) as caught:
        open_source(SHIPPED / file)
    assert "\n" not in str(caught.value)
