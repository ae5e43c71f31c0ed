"""Folders of arrays and of tables of numbers: each file an item, as its own library reads it."""

import shutil

import h5py
import numpy as np
import pytest
import scipy.io
from PIL import Image

from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
PICTURES = RANDOM.integers(0, 256, (4, 6, 9, 3)).astype(np.uint8)
SIGNALS = RANDOM.normal(0, 3, (4, 2, 40))


def stored(source, index=0):
    """The numbers of an item as they are stored."""
    items = to_model_range(source.read_many([index]), source.bits)
    return source.form.values.restore(items)[0]


def write(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, array)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {"image": array})
    else:
        with h5py.File(path, "w") as file:
            file["image"] = array


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat"])
def test_each_file_is_an_item_and_each_folder_a_class(tmp_path, suffix):
    for k, picture in enumerate(PICTURES):
        folder = tmp_path / ("cat" if k % 2 else "dog")
        folder.mkdir(exist_ok=True)
        write(folder / f"{k}{suffix}", picture)
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n")
    source = open_source(tmp_path)
    assert (source.shape, source.bits, source.class_names) == ((3, 6, 9), 8, ("cat", "dog"))
    assert source.key(0) == f"cat/1{suffix}"
    for index, k in enumerate((1, 3, 0, 2)):
        assert np.array_equal(source.read(index), np.moveaxis(PICTURES[k], -1, 0))
    assert list(source.labels) == [0, 0, 1, 1]
    small = open_source(tmp_path, image_size=4)
    assert small.shape == (3, 4, 4)
    (tmp_path / "as_picture").mkdir()
    Image.fromarray(PICTURES[1]).save(tmp_path / "as_picture/1.png")
    assert np.array_equal(small.read(0), open_source(tmp_path / "as_picture", image_size=4).read(0))
    shutil.rmtree(tmp_path / "as_picture")
    patches = open_source(tmp_path, window=(3, 4))
    assert np.array_equal(patches.read(1), source.read(0)[:, :3, 4:8])
    assert patches.group(0) == f"cat/1{suffix}"


@pytest.mark.parametrize("suffix", [".npy", ".h5", ".mat"])
def test_signals_of_several_lengths_are_cut_into_windows(tmp_path, suffix):
    for k, signal in enumerate(SIGNALS):
        write(tmp_path / f"{k}{suffix}", signal[:, : 10 * (k + 1)])
    with pytest.raises(ValueError, match=r"may mean NCL or NLC.*data\.layout"):
        open_source(tmp_path, window=10)
    with pytest.raises(ValueError, match=r"holds 4 sizes, from \(10,\) to \(40,\)"):
        open_source(tmp_path, layout="NCL")
    source = open_source(tmp_path, layout="NCL", window=10)
    assert (len(source), source.shape) == (10, (2, 10))
    assert np.abs(stored(source, 4) - SIGNALS[2][:, 10:20]).max() < 1e-5
    assert source.form.values.low == np.float32(SIGNALS[3].min()) or source.form.values.low < 0


def test_a_table_is_an_item_whose_columns_are_channels(tmp_path):
    for k, signal in enumerate(SIGNALS):
        times = np.arange(40)[:, None] / 10
        rows = np.concatenate([times, signal.T], 1)
        np.savetxt(tmp_path / f"{k}.csv", rows, delimiter=",", header="time,a,b", comments="")
    source = open_source(tmp_path)
    assert (len(source), source.shape) == (4, (2, 40))
    assert np.abs(stored(source, 3) - SIGNALS[3]).max() < 1e-5
    assert open_source(tmp_path, layout="rows").shape == (40, 3)
    assert open_source(tmp_path, layout="NHW").shape == (1, 40, 3)
    with pytest.raises(ValueError, match="use columns, rows or NHW"):
        open_source(tmp_path, layout="NCL")


def test_tables_of_whole_numbers_and_of_floats_go_together(tmp_path):
    (tmp_path / "a.csv").write_text("1\n2\n3\n")
    (tmp_path / "b.csv").write_text("1.5\n2\n3\n")
    assert stored(open_source(tmp_path), 1)[0].tolist() == [1.5, 2, 3]
    (tmp_path / "b.csv").write_text("4\n5\n6\n")
    source = open_source(tmp_path)
    assert (source.bits, stored(source, 1)[0].tolist()) == (3, [4, 5, 6])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (PICTURES[1][..., :1], r"0\.npy and 1\.npy .* differ in channels: 3 and 1"),
        (PICTURES[1].astype(np.float32), r"0\.npy holds uint8 and 1\.npy float32"),
        (PICTURES[1][0, 0], r"differ in axes"),
    ],
)
def test_items_that_differ_are_refused(tmp_path, second, message):
    np.save(tmp_path / "0.npy", PICTURES[0])
    np.save(tmp_path / "1.npy", second)
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path)


def test_two_kinds_of_arrays_are_refused_and_arrays_beside_pictures_skipped(tmp_path):
    np.save(tmp_path / "0.npy", PICTURES[0])
    write(tmp_path / "1.h5", PICTURES[1])
    with pytest.raises(ValueError, match=r"1 array \(such as 0\.npy\) and 1 HDF5 file"):
        open_source(tmp_path)
    Image.fromarray(PICTURES[0]).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="skipped 1 .npy, 1 .h5"):
        assert len(open_source(tmp_path)) == 1


def test_one_array_of_several_is_named(tmp_path):
    for k in range(2):
        np.savez(tmp_path / f"{k}.npz", image=PICTURES[k], mask=PICTURES[k][..., 0])
    with pytest.raises(ValueError, match=r"data\.column=image"):
        open_source(tmp_path)
    assert open_source(tmp_path, column="image").shape == (3, 6, 9)
    mask = open_source(tmp_path, column="mask", layout="NHW")
    assert np.array_equal(mask.read(1)[0], PICTURES[1][..., 0])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".mat", ".csv"])
def test_damaged_files_are_left_out(tmp_path, suffix):
    for k in range(4):
        path = tmp_path / f"{k}{suffix}"
        if suffix == ".csv":
            np.savetxt(path, SIGNALS[k].T, delimiter=",")
        else:
            write(path, PICTURES[k])
    for k in (0, 2):
        path = tmp_path / f"{k}{suffix}"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) - 30] if suffix == ".csv" else content[:60])
    with pytest.raises(ValueError, match=rf"0{suffix}") as caught:
        open_source(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=rf"skipped 2 of 4 files .*\(0{suffix}, 2{suffix}\)"):
        assert len(open_source(tmp_path, corrupt="skip")) == 2
