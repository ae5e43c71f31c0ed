import pickle

import numpy as np
import pytest

from iddpm.data.sources.arrays import _CHUNK_BYTES, _CHUNKS, ArraySource, open_array
from iddpm.data.sources.layouts import to_channels_first
from iddpm.data.values import Values, array_chunks


def saved(tmp_path, array, name="a.npy"):
    np.save(tmp_path / name, array)
    return tmp_path / name


def ramp(*shape, dtype=np.uint8):
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


@pytest.mark.parametrize(
    ("layout", "shape", "expected"),
    [
        ("NL", (2, 7), (1, 7)),
        ("NCL", (2, 3, 7), (3, 7)),
        ("NLC", (2, 7, 3), (3, 7)),
        ("NHW", (2, 5, 7), (1, 5, 7)),
        ("NCHW", (2, 3, 5, 7), (3, 5, 7)),
        ("NHWC", (2, 5, 7, 3), (3, 5, 7)),
        ("NDHW", (2, 4, 5, 7), (1, 4, 5, 7)),
        ("NCDHW", (2, 3, 4, 5, 7), (3, 4, 5, 7)),
        ("NDHWC", (2, 4, 5, 7, 3), (3, 4, 5, 7)),
    ],
)
def test_every_layout_becomes_channels_first(layout, shape, expected):
    array = ramp(*shape)
    source = ArraySource(array, name="a", layout=layout)
    assert source.shape == expected
    items = source.read_many([1, 0])
    assert items.shape == (2, *expected)
    assert items.flags.c_contiguous
    assert np.array_equal(items, to_channels_first(array, layout)[::-1])
    assert np.array_equal(source.read(1), items[0])
    if layout == "NHWC":
        assert np.array_equal(items[0, 2], array[1, :, :, 2])


@pytest.mark.parametrize(
    ("shape", "dtype", "layout"),
    [
        ((2, 9), np.uint8, "NL"),
        ((2, 9, 9), np.uint8, "NHW"),
        ((2, 1, 9), np.float32, "NCL"),
        ((2, 9, 1), np.float32, "NLC"),
        ((2, 9, 9, 3), np.uint8, "NHWC"),
        ((2, 4, 9, 9), np.uint8, "NCHW"),
        ((2, 1, 9, 9, 9), np.uint8, "NCDHW"),
        ((2, 9, 9, 9, 1), np.uint8, "NDHWC"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*half of")
def test_a_clear_layout_is_guessed(shape, dtype, layout):
    array = ramp(*shape) if dtype == np.uint8 else np.zeros(shape, dtype)
    guessed, stated = ArraySource(array, name="a"), ArraySource(array, name="a", layout=layout)
    assert guessed.shape == stated.shape
    assert np.array_equal(guessed.read(1), stated.read(1))


@pytest.mark.parametrize(
    ("shape", "dtype", "named"),
    [
        ((2, 9, 9), np.float32, "NCL or NLC or NHW"),
        ((2, 9, 9), np.uint16, "NCL or NLC or NHW"),
        ((2, 3, 900), np.uint8, "NCL or NLC or NHW"),
        ((2, 3, 9, 3), np.uint8, "NCHW or NHWC or NDHW"),
        ((2, 9, 9, 9), np.uint8, "NCHW or NHWC or NDHW"),
        ((2, 9, 9, 9, 9), np.uint8, "NCDHW or NDHWC"),
        ((9,), np.uint8, "layouts that work are NL"),
        ((1, 1, 1, 1, 1, 1), np.uint8, "layouts that work are NL"),
    ],
)
def test_an_unclear_layout_is_refused_with_the_possible_ones(shape, dtype, named):
    with pytest.raises(ValueError, match=named):
        ArraySource(np.zeros(shape, dtype), name="a")


@pytest.mark.parametrize(
    ("layout", "message"),
    [("NWH", "must be one of"), ("NL", "but NL has 2 axes")],
)
def test_a_wrong_layout_is_refused(layout, message):
    with pytest.raises(ValueError, match=message):
        ArraySource(ramp(2, 5, 5), name="a", layout=layout)


def test_an_empty_array_is_refused():
    with pytest.raises(ValueError, match="holds no data"):
        ArraySource(np.zeros((0, 5, 5), np.uint8), name="a", layout="NHW")


@pytest.mark.parametrize("dtype", [np.uint8, "<u2", ">u2"])
def test_unsigned_integers_keep_their_depth(dtype):
    array = ramp(3, 8, 8, dtype=dtype)
    source = ArraySource(array, name="a", layout="NHW")
    assert source.bits == 8 * array.dtype.itemsize
    assert source.read(2).dtype.isnative
    assert np.array_equal(source.read(2)[0], array[2])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
def test_floats_in_range_become_float32(dtype):
    array = np.linspace(-1, 1, 24).reshape(3, 8).astype(dtype)
    source = ArraySource(array, name="a")
    assert source.bits is None
    assert source.read(1).dtype == np.float32
    assert np.array_equal(source.read(1)[0], array[1].astype(np.float32))


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_floats_that_are_none_are_refused(value, chunk, monkeypatch):
    monkeypatch.setattr("iddpm.data.sources.arrays._CHUNK_BYTES", chunk)
    array = np.zeros((5, 8), np.float32)
    array[0, 0] = -1
    array[3, 4] = value
    with pytest.raises(ValueError, match="first in item 3"):
        ArraySource(array, name="a")


@pytest.mark.parametrize("chunk", [1, 1 << 20])
def test_other_numbers_are_measured(chunk, monkeypatch):
    monkeypatch.setattr("iddpm.data.sources.arrays._CHUNK_BYTES", chunk)
    array = np.zeros((5, 8), np.float32)
    array[0, 0], array[4, 1] = -1, 255
    source = ArraySource(array, name="a")
    assert source.form.values == Values("float32", -1, 255)
    assert source.read(4)[0, :3].tolist() == [-127 / 128, 1, -127 / 128]
    source = ArraySource(array.astype(np.int16), name="a", value_range=(-1, 510))
    assert (source.bits, source.read(4)[0, :3].tolist()) == (9, [1, 256, 1])


def test_floats_in_half_the_range_are_warned_of():
    with pytest.warns(UserWarning, match=r"data.range=\[0,1\]"):
        ArraySource(np.full((2, 8), 0.5, np.float32), name="a")


@pytest.mark.parametrize("dtype", [bool, complex, "U3"])
def test_other_dtypes_are_refused_with_what_to_do(dtype):
    with pytest.raises(ValueError, match=r"no range.*save"):
        ArraySource(np.zeros((2, 8), dtype), name="a")


@pytest.mark.parametrize("image_size", [6, (6, 6), None])
def test_the_size_the_array_has_may_be_stated(image_size):
    assert ArraySource(ramp(2, 6, 6), name="a", image_size=image_size).shape == (1, 6, 6)
    assert ArraySource(ramp(2, 6), name="a", layout="NL", image_size=6).shape == (1, 6)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_uint8_images_are_resized(channels):
    array = np.full((2, 8, 12, channels), 100, np.uint8)
    source = ArraySource(array, name="a", layout="NHWC", image_size=(4, 5))
    assert source.shape == (channels, 4, 5)
    # Color is weighted by opacity, which costs a rounding.
    assert np.abs(source.read_many([0, 1]).astype(int) - 100).max() <= (channels == 4)


@pytest.mark.parametrize(
    ("array", "layout"),
    [(ramp(2, 8), "NL"), (ramp(2, 6, 6, dtype=np.uint16), "NHW"), (ramp(2, 8, 8, 2), "NHWC")],
)
def test_other_arrays_are_not_resized(array, layout):
    with pytest.raises(ValueError, match="only uint8 images"):
        ArraySource(array, name="a", layout=layout, image_size=4)


def test_channels_must_be_those_of_the_array():
    with pytest.raises(ValueError, match=r"has 1 channels .* channels is 3"):
        ArraySource(ramp(2, 6, 6), name="a", channels=3)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_samples_of_improved_diffusion_open(save, tmp_path):
    array = ramp(40, 32, 32, 3)
    save(tmp_path / "s.npz", array, np.arange(40) % 4)
    source = open_array(tmp_path / "s.npz")
    assert (source.name, source.shape, len(source), source.bits) == ("s.npz", (3, 32, 32), 40, 8)
    assert np.array_equal(source.read(7), array[7].transpose(2, 0, 1))
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0, 1, 2, 3] * 10
    assert source.class_names == ("0", "1", "2", "3")
    assert open_array(tmp_path / "s.npz", labels="none").labels is None


@pytest.mark.parametrize("key", ["images", "x", "data", "anything"])
@pytest.mark.parametrize("label_key", ["labels", "y"])
def test_usual_names_of_members_work(key, label_key, tmp_path):
    members = {label_key: np.array([1, 0]), key: ramp(2, 9, 9), "class_names": ["cat", "dog"]}
    np.savez(tmp_path / "a.npz", **members)
    source = open_array(tmp_path / "a.npz")
    assert np.array_equal(source.read(1)[0], members[key][1])
    assert source.labels.tolist() == [1, 0]
    assert source.class_names == ("cat", "dog")


def test_several_candidates_are_listed(tmp_path):
    np.savez(tmp_path / "a.npz", left=ramp(2, 9), right=ramp(2, 9))
    with pytest.raises(ValueError, match=r"left, right; select the data .*=left"):
        open_array(tmp_path / "a.npz")


def test_labels_may_be_words():
    source = ArraySource(ramp(3, 9), name="a", labels=np.array(["dog", "cat", "dog"]))
    assert (source.labels.tolist(), source.class_names) == ([1, 0, 1], ("cat", "dog"))


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1], (), r"shape \(2,\) for 3 items"),
        ([0.0, 1.0, 2.0], (), "float64"),
        ([-2, 0, 1], (), "from -2 to 1"),
        ([0, 1, 2], ("cat", "dog"), "from 0 to 2 for 2 classes"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, names, message):
    with pytest.raises(ValueError, match=message):
        ArraySource(ramp(3, 9), name="a", labels=np.array(labels), class_names=names)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_mapped_file_travels_by_name_and_is_mapped_again(order, tmp_path):
    array = ramp(2000, 9, 9)
    source = open_array(saved(tmp_path, np.asarray(array, order=order)))
    assert isinstance(source._array, np.memmap)
    message = pickle.dumps(source)
    assert len(message) < 5000
    copy = pickle.loads(message)
    assert isinstance(copy._array, np.memmap)
    assert np.array_equal(copy.read_many([5, 1999]), source.read_many([5, 1999]))
    assert np.array_equal(copy.read(1999)[0], array[1999])


def test_a_mapped_member_travels_by_name_too(tmp_path):
    np.savez(
        tmp_path / "a.npz", first=np.zeros(70_000), images=ramp(2000, 9, 9), y=np.zeros(2000, int)
    )
    with pytest.raises(ValueError, match="labels"):
        open_array(tmp_path / "a.npz", labels="prefix")
    source = open_array(tmp_path / "a.npz")
    assert isinstance(source._array, np.memmap)
    message = pickle.dumps(source)
    assert len(message) < 100_000  # the labels travel, the images do not
    assert np.array_equal(pickle.loads(message).read(1234), source.read(1234))


def sparse(path, shape, dtype):
    """A .npy file of zeros that takes no room on the disk."""
    with open(path, "wb") as file:
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        file.truncate(file.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    return path


def resident():
    """Bytes of this process in memory, mapped files included."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.parametrize("dtype", [np.uint8, np.float16])
@pytest.mark.filterwarnings("ignore:.*half of")  # zeros are
def test_an_array_larger_than_the_memory_opens_at_once(dtype, tmp_path, monkeypatch):
    looked = []

    def watched(*arguments):
        for numbers, rows in array_chunks(*arguments):
            looked.append(rows.nbytes)
            yield numbers, rows

    monkeypatch.setattr("iddpm.data.sources.arrays.array_chunks", watched)
    path = sparse(tmp_path / "a.npy", (200_000, 3, 256, 256), dtype)  # 39 and 79 GB
    before = resident()
    source = open_array(path)
    assert (source.read_many([199_999, 0, 123_456]) == 0).all()
    assert sum(looked) <= _CHUNKS * _CHUNK_BYTES  # and nothing of numbers of one byte
    assert bool(looked) == (dtype is np.float16)
    assert resident() - before < 200 << 20
    assert len(pickle.dumps(source)) < 5000  # workers and ranks map the same file


def test_what_was_not_checked_at_opening_is_checked_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr("iddpm.data.sources.arrays._CHUNK_BYTES", 1)
    monkeypatch.setattr("iddpm.data.values.WHOLE_BYTES", 1000)
    monkeypatch.setattr("iddpm.data.sources.arrays._CHUNKS", 3)
    array = np.full((101, 8), -0.5, np.float32)
    array[7, 2], array[8, 2] = np.nan, 2
    source = ArraySource(array, name="a")  # looks at the rows 0, 50 and 100
    assert (source.read_many([6, 9]) == -0.5).all()
    with pytest.raises(ValueError, match="a holds NaN or infinity, first in item 7"):
        source.read_many([6, 7])
    with pytest.raises(ValueError, match=r"a holds floats in \[-0.5, 2\]"):
        source.read(8)
    array[50] = np.inf
    with pytest.raises(ValueError, match="first in item 50"):
        ArraySource(array, name="a")
    with pytest.raises(ValueError, match=r"set data\.range"):
        ArraySource(np.full((101, 8), 7.0, np.float32), name="a")


def test_a_file_is_stamped(tmp_path):
    path = saved(tmp_path, ramp(4, 9, 9))
    (stamp,) = open_array(path).stamps()
    assert (stamp.name, stamp.size) == ("a.npy", path.stat().st_size)
    saved(tmp_path, ramp(5, 9, 9))
    assert next(open_array(path).stamps()) != stamp


def test_keys_are_row_numbers():
    assert [ArraySource(ramp(3, 9), name="a").key(i) for i in range(3)] == ["0", "1", "2"]


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.npy"):
        open_array(tmp_path / "gone.npy")


@pytest.mark.parametrize(
    "labels", [np.arange(6) % 2, np.array(list("abcabc"))], ids=["numbers", "words"]
)
def test_labels_in_one_column_are_taken(labels, tmp_path):
    x = np.arange(6 * 64, dtype=np.uint16).reshape(6, 1, 8, 8)
    np.savez(tmp_path / "flat.npz", images=x, labels=labels)
    np.savez(tmp_path / "column.npz", images=x, labels=labels[:, None])
    flat, column = (open_array(tmp_path / f"{name}.npz") for name in ("flat", "column"))
    assert np.array_equal(flat.labels, column.labels)
    assert flat.class_names == column.class_names


def test_an_object_member_beside_the_data_is_left_out_and_said(tmp_path):
    x = np.arange(6 * 64, dtype=np.uint16).reshape(6, 1, 8, 8)
    np.savez(tmp_path / "a.npz", notes=np.array([{"a": 1}], dtype=object), images=x)
    for column in (None, "images"):
        with pytest.warns(UserWarning, match="notes, which holds pickled Python objects"):
            assert len(open_array(tmp_path / "a.npz", column=column)) == 6
    with (
        pytest.warns(UserWarning, match="notes"),
        pytest.raises(ValueError, match="no array 'notes'"),
    ):
        open_array(tmp_path / "a.npz", column="notes")
