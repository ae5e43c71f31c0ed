"""One item and its mask from files."""

import numpy as np
import pytest
import torch
from PIL import Image

from iddpm.data.file_format import Form
from iddpm.data.item import read_item, read_mask
from iddpm.data.values import Values
from iddpm.data.writers.raster_files import write_raster


def picture(path, size=(8, 6), mode="L"):
    """Write a picture of (height, width) and return its path and pixels."""
    bands = len(mode)
    pixels = np.random.default_rng(0).integers(0, 256, (*size, bands), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if bands == 1 else pixels).save(path)
    return path, pixels


def test_pictures_of_the_models_size_keep_every_level(tmp_path):
    for mode in ("L", "RGB", "RGBA"):
        path, pixels = picture(tmp_path / f"{mode}.png", mode=mode)
        item = read_item(path, (len(mode), 8, 6), 8)
        assert item.picture_size == (8, 6)
        back = ((item.x + 1) * 127.5).round().to(torch.uint8).numpy()
        assert np.array_equal(back, pixels.transpose(2, 0, 1))


def test_other_pictures_are_cropped_resized_and_converted(tmp_path):
    path, _ = picture(tmp_path / "a.png", size=(40, 90), mode="RGB")
    item = read_item(path, (1, 8, 8), 8)
    assert item.x.shape == (1, 8, 8)
    assert item.picture_size == (40, 90)


@pytest.mark.parametrize("shape", [(1, 9), (2, 9), (1, 8, 6), (3, 8, 6), (1, 3, 4, 5)])
def test_arrays_in_every_dimension_and_layout(tmp_path, shape):
    x = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    layouts = [x, np.moveaxis(x, 0, -1)]
    if shape[0] == 1:
        layouts.append(x[0])
    for k, values in enumerate(layouts):
        np.save(tmp_path / f"{k}.npy", values)
        item = read_item(tmp_path / f"{k}.npy", shape, None)
        assert np.array_equal(item.x.numpy(), x)
        assert item.picture_size is None
    np.save(tmp_path / "levels.npy", np.full(shape, 255, np.uint8))
    assert float(read_item(tmp_path / "levels.npy", shape, 8).x.min()) == 1


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (lambda p: np.save(p, np.zeros((8, 7))), (1, 8, 6), r"shape \(8, 7\).*\(1, 8, 6\)"),
        (lambda p: np.save(p, np.zeros((8, 6), np.int64)), (1, 8, 6), "holds int64 numbers"),
        (lambda p: np.save(p, np.full((8, 6), 2.0)), (1, 8, 6), r"outside \[-1, 1\]"),
        (lambda p: np.save(p, np.full((8, 6), np.nan)), (1, 8, 6), r"outside \[-1, 1\]"),
        (lambda p: np.save(p, np.zeros((8, 6), np.uint16)), (1, 8, 6), "holds 16 bits"),
        (lambda p: p.write_bytes(b"no array"), (1, 8, 6), "not a numpy array"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, make, shape, message):
    make(tmp_path / "x.npy")
    with pytest.raises(ValueError, match=message):
        read_item(tmp_path / "x.npy", shape, 8)


def test_pictures_that_do_not_fit_are_refused(tmp_path):
    path, _ = picture(tmp_path / "a.png")
    for shape in ((2, 8, 6), (1, 9), (1, 2, 8, 6)):
        with pytest.raises(ValueError, match=r"cannot be read as an item .* a \.npy array"):
            read_item(path, shape, 8)
    with pytest.raises(ValueError, match=r"a \.npy array or a picture"):
        read_item(path.rename(tmp_path / "a.txt"), (1, 8, 6), 8)
    Image.fromarray(np.zeros((8, 6), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match="holds 16 bits per sample and the model was trained on 8"):
        read_item(tmp_path / "deep.png", (1, 8, 6), 8)
    assert float(read_item(tmp_path / "deep.png", (1, 8, 6), 16).x.max()) == -1
    with pytest.raises(FileNotFoundError, match="no file"):
        read_item(tmp_path / "none.png", (1, 8, 6), 8)


def test_masks_of_pictures_and_arrays(tmp_path):
    wanted = np.zeros((8, 6), bool)
    wanted[2:, 3:] = True
    Image.fromarray(wanted.astype(np.uint8) * 255).save(tmp_path / "m.png")
    Image.fromarray(np.stack([wanted.astype(np.uint8) * 250] * 3, -1)).save(tmp_path / "rgb.png")
    np.save(tmp_path / "bool.npy", wanted)
    np.save(tmp_path / "float.npy", wanted.astype(np.float32)[None])
    np.save(tmp_path / "levels.npy", wanted.astype(np.uint8)[..., None] * 255)
    for name in ("m.png", "rgb.png", "bool.npy", "float.npy", "levels.npy"):
        mask = read_mask(tmp_path / name, (8, 6))
        assert mask.shape == (1, 8, 6)
        assert np.array_equal(mask[0].numpy(), wanted), name
    np.save(tmp_path / "volume.npy", np.ones((1, 4, 5)))
    assert read_mask(tmp_path / "volume.npy", (1, 4, 5)).shape == (1, 1, 4, 5)


def test_a_mask_of_the_pictures_own_size_is_resized_with_it(tmp_path):
    large = np.zeros((40, 80), np.uint8)
    large[:, 40:] = 255
    Image.fromarray(large).save(tmp_path / "m.png")
    mask = read_mask(tmp_path / "m.png", (8, 8), (40, 80))  # the middle square is kept
    assert mask[0].tolist() == [[False] * 4 + [True] * 4] * 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones((6, 8)), r"has shape \(6, 8\) and the model's data \(8, 6\)"),
        (np.zeros((8, 6)), "marks no region"),
        (np.full((8, 6), 300.0), "outside 0 to 1"),
        (np.full((8, 6), -1.0), "outside 0 to 1"),
        (np.full((8, 6), np.nan), "outside 0 to 1"),
    ],
)
def test_masks_that_do_not_fit_are_refused(tmp_path, values, message):
    np.save(tmp_path / "m.npy", values)
    with pytest.raises(ValueError, match=message):
        read_mask(tmp_path / "m.npy", (8, 6))


def test_mask_files_that_are_none(tmp_path):
    path, _ = picture(tmp_path / "m.png", size=(9, 9))
    with pytest.raises(ValueError, match=r"\(8, 6\): give a mask of that shape or \(40, 30\), the"):
        read_mask(path, (8, 6), (40, 30))
    with pytest.raises(ValueError, match=r"mask of shape \(9,\): give a \.npy array"):
        read_mask(path, (9,))
    with pytest.raises(FileNotFoundError, match="no file"):
        read_mask(tmp_path / "none.png", (8, 6))


def test_floats_from_0_to_1_are_warned_of(tmp_path):
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 16, dtype=np.float32).reshape(1, 4, 4))
    with pytest.warns(UserWarning, match=r"half of \[-1, 1\].*save 2 \* x - 1"):
        read_item(tmp_path / "a.npy", (1, 4, 4), None)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_a_mask_in_an_alpha_channel_is_refused(tmp_path, mode):
    alpha = np.zeros((6, 4), np.uint8)
    alpha[:3] = 255
    picture = Image.new(mode, (4, 6), "white")
    picture.putalpha(Image.fromarray(alpha))
    picture.save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=r"mask\.png has an alpha channel"):
        read_mask(tmp_path / "mask.png", (6, 4))
    opaque = Image.fromarray(alpha).convert(mode)
    opaque.save(tmp_path / "opaque.png")
    assert read_mask(tmp_path / "opaque.png", (6, 4))[0, :, 0].tolist() == [True] * 3 + [False] * 3


@pytest.mark.parametrize("shape", [(1, 8, 6), (3, 8, 6), (2, 4, 8, 6)])
@pytest.mark.parametrize("dtype", ["int16", "float32", "uint32"])
def test_tiffs_of_numbers_are_read_by_the_models_range(tmp_path, shape, dtype):
    low = 0 if dtype == "uint32" else -300
    x = np.random.default_rng(0).integers(low, 1000, shape).astype(dtype)
    write_raster(
        tmp_path / "a.tif", x, Form("raster", encoding="rgb" if shape[0] == 3 else "minisblack")
    )
    ends = (-300.0, 1000.0) if dtype == "float32" else (-1024.0, 1023.0)
    ends = (0.0, 1023.0) if dtype == "uint32" else ends
    values = Values(dtype, *ends)
    item = read_item(tmp_path / "a.tif", shape, values.bits, values)
    assert item.picture_size == (8, 6)
    np.testing.assert_allclose(values.restore(item.x), x, atol=1e-4)
    half = read_item(tmp_path / "a.tif", (*shape[:-2], 4, 3), values.bits, values)
    assert abs(float(half.x.mean() - item.x.mean())) < 0.1
    with pytest.raises(ValueError, match="as many samples per pixel and as many pages"):
        read_item(tmp_path / "a.tif", (shape[0] + 1, *shape[1:]), values.bits, values)
    with pytest.raises(ValueError, match=f"holds {dtype} numbers, and the model's data int8"):
        read_item(tmp_path / "a.tif", shape, 8, Values("int8", -128, 127))


def test_pictures_are_read_by_the_models_range_too(tmp_path):
    x = np.random.default_rng(0).integers(0, 4096, (8, 6)).astype(np.uint16)
    Image.fromarray(x).save(tmp_path / "a.png")
    values = Values("uint16", 0, 4095)
    item = read_item(tmp_path / "a.png", (1, 8, 6), values.bits, values)
    assert np.array_equal(values.restore(item.x)[0], x)
    labels = np.arange(48, dtype=np.uint8).reshape(8, 6) % 4
    Image.fromarray(labels).save(tmp_path / "b.png")
    values = Values("uint8", 0, 3)
    item = read_item(tmp_path / "b.png", (1, 8, 6), values.bits, values)
    assert np.array_equal(values.restore(item.x)[0], labels)
    with pytest.raises(ValueError, match=r"holds integers in .*set a wider data.range"):
        read_item(tmp_path / "b.png", (1, 8, 6), 1, Values("uint8", 0, 1))
