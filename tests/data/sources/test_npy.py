import copy
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from iddpm.data.sources import npy
from iddpm.data.sources.npy import map_npy, read_npz

ARRAYS = st_numpy.arrays(
    dtype=st.sampled_from(["u1", "<u2", ">u2", "<f4", "<f8", "<i8"]),
    shape=st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0),
)


@settings(max_examples=60, deadline=None)
@given(array=ARRAYS, fortran=st.booleans())
def test_npy_maps_what_numpy_saved(array, fortran, tmp_path_factory):
    path = tmp_path_factory.mktemp("npy") / "a.npy"
    array = np.asarray(array, order="F" if fortran else "C")
    np.save(path, array)
    mapped = map_npy(path)
    assert (mapped.dtype, mapped.shape) == (array.dtype, array.shape)
    assert mapped.tobytes() == array.tobytes()


@settings(max_examples=60, deadline=None)
@given(arrays=st.dictionaries(st.sampled_from(["x", "y", "long_name"]), ARRAYS, min_size=1))
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_holds_what_numpy_saved(save, arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    save(path, **arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(npy, "_SMALL", 0)  # map even the smallest
        members = read_npz(path)
    assert members.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (members[name].dtype, members[name].shape) == (array.dtype, array.shape)
        assert members[name].tobytes() == array.tobytes()


def test_only_large_uncompressed_members_are_mapped(tmp_path):
    large, small = np.arange(100_000, dtype=np.uint8), np.arange(10)
    np.savez(tmp_path / "stored.npz", large=large, small=small)
    np.savez_compressed(tmp_path / "packed.npz", large=large)
    stored, packed = read_npz(tmp_path / "stored.npz"), read_npz(tmp_path / "packed.npz")
    assert isinstance(stored["large"], np.memmap)
    assert stored["large"].mode == "r"
    assert not isinstance(stored["small"], np.memmap)
    assert not isinstance(packed["large"], np.memmap)
    assert np.array_equal(stored["large"], large)
    assert np.array_equal(packed["large"], large)


def test_extra_fields_of_the_local_header_are_stepped_over(tmp_path):
    array = np.arange(100_000)
    np.save(tmp_path / "a.npy", array)
    info = zipfile.ZipInfo("x.npy")
    info.extra = b"\x99\x99\x05\x00abcde"
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(info, (tmp_path / "a.npy").read_bytes())
    mapped = read_npz(tmp_path / "a.npz")["x"]
    assert isinstance(mapped, np.memmap)
    assert np.array_equal(mapped, array)


def test_objects_are_never_unpickled(tmp_path):
    objects = np.array([[1], [2, 3]], dtype=object)
    np.save(tmp_path / "a.npy", objects)
    np.savez(tmp_path / "a.npz", objects)
    with pytest.raises(ValueError, match=r"a\.npy holds pickled Python objects"):
        map_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"a\.npz: arr_0\.npy holds pickled Python objects"):
        read_npz(tmp_path / "a.npz")


def test_records_are_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, dtype=[("a", "u1"), ("b", "f4")]))
    with pytest.raises(ValueError, match="records"):
        map_npy(tmp_path / "a.npy")


@pytest.mark.parametrize("kept", [0, 3, 40, 500])
def test_a_cut_npy_is_one_sentence(kept, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(1000, np.uint8))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"a\.npy is (truncated|not a numpy array)") as caught:
        map_npy(tmp_path / "a.npy")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_npz_is_one_sentence(save, kept, tmp_path):
    path = tmp_path / "a.npz"
    save(path, np.random.default_rng(0).random(10_000))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"a\.npz is not a complete \.npz file"):
        read_npz(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_flipped_bytes_in_an_npz_are_noticed(save, tmp_path):
    path = tmp_path / "a.npz"
    save(path, np.arange(5000))  # small enough to be loaded, and so checked
    content = bytearray(path.read_bytes())
    content[300:340] = bytes(40 * [0xAA])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_npz(path)


def test_a_member_that_unpacks_to_far_more_than_it_holds_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("iddpm.data.sources.npy._UNPACKED", 1 << 20)
    np.savez_compressed(tmp_path / "bomb.npz", np.zeros(2 << 20, np.uint8))
    with pytest.raises(ValueError, match=r"above 1 MiB, .* may unpack to at most 100 times"):
        read_npz(tmp_path / "bomb.npz")
    small = np.zeros(1 << 19, np.uint8)
    np.savez_compressed(tmp_path / "small.npz", small)
    assert len(read_npz(tmp_path / "small.npz")["arr_0"]) == 1 << 19
    np.savez_compressed(tmp_path / "many.npz", small, small, small)
    with pytest.raises(
        ValueError, match=r"many\.npz promises 1573248 bytes out of \d+: above 1 MiB"
    ):
        read_npz(tmp_path / "many.npz")
    random = np.random.default_rng(0).integers(0, 256, 1 << 19, np.uint8)
    np.savez_compressed(tmp_path / "full.npz", *[random] * 3)
    assert len(read_npz(tmp_path / "full.npz")) == 3
    list_again(tmp_path / "full.npz", 400)
    with pytest.raises(ValueError, match=r"full\.npz promises \d+ bytes out of"):
        read_npz(tmp_path / "full.npz")


def list_again(path, count):
    """Let the list of members name the first one ``count`` times more."""
    with zipfile.ZipFile(path, "a") as archive:
        first = archive.infolist()[0]
        for number in range(count):
            again = copy.copy(first)
            again.filename = again.orig_filename = f"{number}.npy"
            archive.filelist.append(again)
            archive.NameToInfo[again.filename] = again
        archive._didModify = True


def test_a_longer_list_of_members_than_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez(path, *np.zeros((40, 1)))
    assert len(read_npz(path)) == 40
    monkeypatch.setattr("iddpm.data.sources.zip_directory.MOST", 2000)
    message = r"a\.npz has a list of members of \d+ bytes, and at most 2000 are read"
    with pytest.raises(ValueError, match=message):
        read_npz(path)
    content = bytearray(path.read_bytes())  # the same with zip64's record of the end
    end = content.rindex(b"PK\5\6")
    size, place = struct.unpack_from("<II", content, end + 12)
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 40, 40, size, place)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end, 1)
    content[end + 12 : end + 20] = b"\xff" * 8
    path.write_bytes(content[:end] + record + locator + content[end:])
    with pytest.raises(ValueError, match=message):
        read_npz(path)
    monkeypatch.undo()
    assert len(read_npz(path)) == 40
