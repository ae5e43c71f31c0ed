"""Each source, written back by its writer and read again, is what it was."""

import h5py
import nibabel
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source
from iddpm.data.split import held_out_mask
from iddpm.data.writers.data_files import save_files, save_table

RANDOM = np.random.default_rng(0)
AFFINE = np.array([[-2, 0, 0, 90], [0, 1.5, 0.5, -126], [0, 0.1, 3, -72], [0, 0, 0, 1.0]])


def model_range(source):
    return to_model_range(source.read_many(range(len(source))), source.bits)


def write_sounds(folder, dtype="int16", subtype="PCM_16", channels=2, rate=8000, suffix=".wav"):
    values = RANDOM.uniform(-1, 1, (4, 300, channels))
    values[0, :2] = -1, 1 - 2**-15
    stored = (values * 2**15).round().clip(-(2**15), 2**15 - 1).astype(np.int16)
    for number, item in enumerate(stored if dtype == "int16" else values.astype(dtype)):
        path = folder / f"{'ab'[number % 2]}/{number}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, item, rate, subtype=subtype)
    return folder


@pytest.mark.parametrize(
    ("dtype", "subtype", "suffix"),
    [
        ("int16", "PCM_16", ".wav"),
        ("int16", "PCM_16", ".flac"),
        ("float64", "PCM_24", ".wav"),
        ("float64", "PCM_24", ".flac"),
        ("float32", "FLOAT", ".wav"),
    ],
)
def test_sounds(tmp_path, dtype, subtype, suffix):
    source = open_source(write_sounds(tmp_path / "in", dtype, subtype, suffix=suffix))
    assert (source.shape, source.class_names, len(source)) == ((2, 300), ("a", "b"), 4)
    paths = save_files(model_range(source), tmp_path / "out", source.form)
    for index, path in enumerate(paths):
        before, rate = soundfile.read(tmp_path / "in" / source.key(index))
        after, rate_after = soundfile.read(path)
        assert (rate, soundfile.info(path).subtype) == (rate_after, subtype)
        assert path.suffix == suffix
        assert np.array_equal(before, after)
    again = open_source(tmp_path / "out")
    assert torch.equal(model_range(again), model_range(source))


def test_sounds_are_resampled_and_cut(tmp_path):
    t = np.arange(16000) / 16000
    for rate in (8000, 16000):
        tone = np.sin(2 * np.pi * 440 * t[:rate] * 16000 / rate) * 0.5
        soundfile.write(tmp_path / f"{rate}.wav", tone, rate, subtype="PCM_16")
    with pytest.raises(ValueError, match="8000, 16000 Hz"):
        open_source(tmp_path)
    source = open_source(tmp_path, sample_rate=8000, window=1000, stride=500)
    assert (source.shape, len(source), source.form.sample_rate) == ((1, 1000), 30, 8000)
    # One tone of 440 Hz, whichever rate it was sampled at.
    low, high = source.read(4)[0] / 32768, source.read(19)[0] / 32768
    assert np.abs(low.astype(float) - high).max() < 0.01
    mask = held_out_mask(source, 0.05)
    assert {source.key(i).partition(":")[0] for i in np.flatnonzero(mask)} in (
        {"8000.wav"},
        {"16000.wav"},
    )


def test_resampling_adds_no_dither(tmp_path):
    """soxr seeds one by where its memory lies, so that a resumed run would read other numbers."""
    ramp = (np.arange(210) * 156 - 16_000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", ramp, 8000, subtype="PCM_16")
    read, held = set(), []
    for number in range(300):
        held = [np.zeros(1000 + 97 * (number + k) % 60_000) for k in range(5)]
        read.add(open_source(tmp_path / "a.wav", sample_rate=4000).read(0).tobytes())
    assert len(held) == 5
    assert len(read) == 1


@pytest.mark.parametrize("labels", ["first", "last"])
@pytest.mark.parametrize("dtype", [int, float])
def test_tables(tmp_path, labels, dtype):
    values = RANDOM.integers(-500, 3000, (12, 9)) + (0.25 if dtype is float else 0)
    classes = np.arange(12) % 3 + 1
    columns = [classes, values] if labels == "first" else [values, classes]
    np.savetxt(tmp_path / "a.csv", np.column_stack(columns), delimiter=",", fmt="%g")
    source = open_source(tmp_path / "a.csv", labels="auto" if dtype is float else labels)
    assert (source.shape, source.class_names) == ((1, 9), ("1", "2", "3"))
    assert np.array_equal(source.labels, classes - 1)
    names = [source.class_names[k] for k in source.labels]
    save_table(model_range(source), tmp_path / "b.csv", source.form, labels=names)
    written = np.loadtxt(tmp_path / "b.csv", delimiter=",")
    assert np.allclose(
        written, np.column_stack([values, classes]), atol=0 if dtype is int else 1e-3
    )
    again = open_source(tmp_path / "b.csv", labels="last")
    assert np.array_equal(again.labels, source.labels)
    assert torch.allclose(model_range(again), model_range(source), atol=0 if dtype is int else 1e-5)


def test_windows_of_one_row_stay_together(tmp_path):
    values = RANDOM.normal(size=(40, 64))
    np.savetxt(tmp_path / "a.tsv", np.column_stack([np.arange(40) % 2, values]), delimiter="\t")
    source = open_source(tmp_path / "a.tsv", window=16, stride=8)
    assert (source.shape, len(source), len(source.labels)) == ((1, 16), 40 * 7, 40 * 7)
    assert (source.labels == np.repeat(np.arange(40) % 2, 7)).all()
    whole = open_source(tmp_path / "a.tsv")
    assert np.array_equal(source.read(7 + 2), whole.read(1)[:, 16:32])
    by_row = held_out_mask(source, 0.2).reshape(40, 7)
    assert (by_row == by_row[:, :1]).all()
    assert 0 < by_row.sum() < by_row.size


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", ">i2"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes(tmp_path, dtype, suffix):
    stored = RANDOM.integers(0, 200, (3, 7, 6, 5)).astype(dtype)
    (tmp_path / "in").mkdir()
    for number, item in enumerate(stored):
        image = nibabel.Nifti1Image(item, AFFINE)
        image.header.set_data_dtype(item.dtype)
        nibabel.save(image, tmp_path / f"in/{number}{suffix}")
    source = open_source(tmp_path / "in")
    assert (source.shape, len(source)) == ((1, 7, 6, 5), 3)
    paths = save_files(model_range(source), tmp_path / "out", source.form)
    for item, path in zip(stored, paths, strict=True):
        image = nibabel.load(path)
        voxels = np.asarray(image.dataobj)
        assert np.allclose(image.affine, AFFINE, atol=1e-6)
        assert image.get_data_dtype() == np.dtype(dtype).newbyteorder("=")
        if dtype == "float32":
            assert np.allclose(voxels, item, atol=1e-4)
        else:
            assert np.array_equal(voxels, item)


def test_patches_of_one_volume_share_no_voxel_across_the_split(tmp_path):
    voxels = np.arange(24 * 12 * 12, dtype=np.int16).reshape(24, 12, 12)
    nibabel.save(nibabel.Nifti1Image(voxels, AFFINE), tmp_path / "a.nii.gz")
    source = open_source(tmp_path / "a.nii.gz", window=4, stride=2)
    assert (source.shape, len(source)) == ((1, 4, 4, 4), 6 * 5 * 5)
    mask = held_out_mask(source, 0.2)
    assert 0 < mask.sum() < len(source)
    held_out, train = (
        {int(v) for i in np.flatnonzero(m) for v in source.read(int(i)).ravel()}
        for m in (mask, ~mask)
    )
    assert not held_out & train


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "written"),
    [
        ("{}.gif", 1, np.uint8, "000000.gif"),
        ("{}.webp", 3, np.uint8, "000000.webp"),
        ("{}.webp", 4, np.uint8, "000000.webp"),
        ("{}.tif", 1, np.uint8, "000000.tif"),
        ("{}.tif", 3, np.uint8, "000000.tif"),
        ("{}.tif", 1, np.uint16, "000000.tif"),
        ("{}/{}.png", 1, np.uint8, "000000"),
        ("{}/{}.png", 3, np.uint8, "000000"),
        ("{}/{}.png", 1, np.uint16, "000000"),
    ],
)
def test_clips(tmp_path, name, channels, dtype, written):
    shape = (3, 5, 17, 18) if channels == 1 else (3, 5, 17, 18, channels)
    stored = RANDOM.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    if channels == 4:
        stored[..., 3] |= 1  # libwebp's own encoder drops colors that cannot be seen
    for number, frames in enumerate(stored):
        images = [Image.fromarray(frame) for frame in frames]
        path = tmp_path / "in" / name.format(number, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        if "/" in name:
            for place, image in enumerate(images):
                image.save(tmp_path / "in" / name.format(number, place))
        else:
            settings = {"lossless": True, "exact": True} if "webp" in name else {}
            images[0].save(path, save_all=True, append_images=images[1:], duration=70, **settings)
    settings = {"layout": "frames" if "/" in name else None, "channels": channels}
    source = open_source(tmp_path / "in", **settings)
    first = stored[:, None] if channels == 1 else np.moveaxis(stored, -1, 1)
    assert np.array_equal(source.read_many(range(3)), first)
    # Frames that equal the one before would be joined by the usual encoders.
    x = model_range(source)
    x[1, :, 2:4] = x[1, :, :1]
    x[2] = -1
    x[0, 3:] = -1  # transparent, where there is a fourth channel
    paths = save_files(x, tmp_path / "out", source.form)
    assert (paths[0].name, len(paths)) == (written, 3)
    again = open_source(tmp_path / "out", **settings)
    assert again.form == source.form
    assert torch.equal(model_range(again), x)


def test_stacks_of_floats_and_of_some_bits(tmp_path):
    floats = RANDOM.normal(size=(4, 6, 5)).astype(np.float32)
    deep = RANDOM.integers(0, 4096, (4, 6, 5), dtype=np.uint16)
    deep[0, 0, 0] = 4095
    for name, stored in (("f", floats), ("d", deep)):
        first, *others = map(Image.fromarray, stored)
        first.save(tmp_path / f"{name}.tif", save_all=True, append_images=others)
        source = open_source(tmp_path / f"{name}.tif", value_range="auto")
        assert source.bits == (None if name == "f" else 12)
        (path,) = save_files(model_range(source), tmp_path / name, source.form)
        again = open_source(path, value_range=(source.form.values.low, source.form.values.high))
        assert again.form == source.form
        equal = source.form.values.restore(model_range(again))[0, 0]
        assert np.allclose(equal, stored, atol=1e-6) if name == "f" else (equal == stored).all()


def test_hdf5(tmp_path):
    stored = RANDOM.integers(-50, 70, (9, 6, 7, 3)).astype(np.int8)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("images", data=stored, compression="gzip")
        file["labels"] = np.arange(9) % 2
    source = open_source(tmp_path / "a.h5")
    assert (source.shape, source.class_names) == ((3, 6, 7), ("0", "1"))
    order = [5, 0, 5, 8]
    read = to_model_range(source.read_many(order), source.bits)
    assert np.array_equal(source.form.values.restore(read), stored[order].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_one_of_several_arrays_is_named(tmp_path, suffix):
    path, arrays = (
        tmp_path / f"a{suffix}",
        {"t1": RANDOM.uniform(-1, 1, (5, 8)), "t2": np.zeros((5, 8))},
    )
    if suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                file[key] = values
            file["train/t3"] = np.ones((2, 8), np.uint8)
    with pytest.raises(ValueError, match=r"the arrays t1, t2; .* -s data\.column=t1"):
        open_source(path)
    with pytest.raises(ValueError, match=r"(has|holds) no array 't4'.*t1, t2"):
        open_source(path, column="t4")
    source = open_source(path, column="t1", layout="NL")
    assert np.allclose(source.read(3)[0], arrays["t1"][3])
    if suffix == ".h5":
        assert len(open_source(path, column="train/t3")) == 2


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.float32, None)])
def test_arrays_that_cannot_be_written_are_copied(dtype, bits):
    """PyTorch warns of tensors that share memory with them."""
    x = np.zeros(3, dtype)
    x.flags.writeable = False
    values = to_model_range(x, bits)
    values += 1
    assert not x.any()
