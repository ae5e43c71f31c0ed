"""TIFF files against what was written: every kind of number, layout and compression."""

import struct

import numpy as np
import pytest
import tifffile
from PIL import Image

from iddpm.data.levels import to_model_range
from iddpm.data.sources.animation import read_facts
from iddpm.data.sources.open import open_source
from iddpm.data.sources.picture import load_picture
from iddpm.data.sources.tiff_pages import read_pages

RANDOM = np.random.default_rng(0)


def stored(source, index=0):
    values = source.form.values
    x = to_model_range(source.read_many([index]), source.bits)
    return values.restore(x)[0] if values else source.read(index)


def folder(path, x, **options):
    path.mkdir(exist_ok=True)
    tifffile.imwrite(path / "a.tif", x, metadata=None, **options)
    tifffile.imwrite(path / "b.tif", x[::-1], metadata=None, **options)
    return path


@pytest.mark.parametrize("kind", ["i1", "i2", "u4", "i4", "f2", "f4", "f8"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_numbers_of_every_kind(tmp_path, kind, order, big, tile):
    x = np.linspace(-100 if kind != "u4" else 0, 100, 24 * 20).round().astype(kind)
    x = x.reshape(24, 20)
    options = {"byteorder": order, "bigtiff": big, "tile": tile, "photometric": "minisblack"}
    source = open_source(folder(tmp_path / "x", x, **options))
    assert (len(source), source.shape) == (2, (1, 24, 20))
    np.testing.assert_allclose(stored(source)[0], x.astype(np.float64), atol=1e-4)


@pytest.mark.parametrize("samples", [2, 4, 5])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("kind", ["u1", "u2"])
def test_samples_are_channels(tmp_path, samples, planar, compression, kind):
    x = RANDOM.integers(0, 250, (9, 7, samples)).astype(kind)
    light = "minisblack" if samples == 2 else "rgb"
    extra = ["unspecified"] * (samples - (1 if samples == 2 else 3))
    data = x if planar == "contig" else np.moveaxis(x, -1, 0)
    options = {"planarconfig": planar, "compression": compression, "extrasamples": extra}
    tifffile.imwrite(tmp_path / "a.tif", data, photometric=light, metadata=None, **options)
    source = open_source(tmp_path, channels=4 if samples == 4 else None)
    assert np.array_equal(stored(source), np.moveaxis(x, -1, 0))


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "packbits", "zstd"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("samples", [1, 3, 4])
def test_plain_pictures_are_exact(tmp_path, compression, predictor, samples):
    x = RANDOM.integers(0, 256, (20, 18, samples)).astype(np.uint8)
    options = {"compression": compression, "predictor": predictor and compression is not None}
    if samples == 4:
        options["extrasamples"] = ["unassalpha"]
    light = "minisblack" if samples == 1 else "rgb"
    data = x[..., 0] if samples == 1 else x
    source = open_source(folder(tmp_path / "x", data, photometric=light, **options))
    assert np.array_equal(source.read(0), np.moveaxis(x, -1, 0))


@pytest.mark.parametrize("kind", ["u1", "f4"])
def test_a_reduced_copy_is_no_picture_and_no_frame(tmp_path, kind):
    x = np.arange(256).reshape(16, 16).astype(kind)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(x, photometric="minisblack", metadata=None)
        file.write(x[::2, ::2], photometric="minisblack", subfiletype=1, metadata=None)
    source = open_source(tmp_path)
    assert (len(source), source.shape) == (1, (1, 16, 16))
    np.testing.assert_allclose(stored(source)[0], x, atol=1e-4)


def test_stacks_of_signed_numbers(tmp_path):
    x = RANDOM.integers(-900, 900, (3, 8, 6)).astype(np.int16)
    tifffile.imwrite(tmp_path / "a.tif", x, photometric="minisblack")
    source = open_source(tmp_path / "a.tif")
    assert source.shape == (1, 3, 8, 6)
    assert np.array_equal(stored(source)[0], x)


def test_a_fax_is_no_decompression_bomb_and_a_bomb_is_one(tmp_path):
    size = (9000, 10000)  # 90 million pixels, more than Pillow takes for safe
    Image.new("1", size, 1).save(tmp_path / "fax.tif", compression="group4")
    content = (tmp_path / "fax.tif").read_bytes()
    assert len(content) < 40000
    (found,) = read_pages(tmp_path / "fax.tif", "fax.tif")
    assert (found.size, found.mode) == (size[::-1], "L")
    image, bits = load_picture(tmp_path / "fax.tif")
    assert (image.size, bits, image.getextrema()) == (size, 8, (255, 255))
    at = content.index(struct.pack("<HHI", 256, 3, 1))  # the width, made a long number
    bomb = content[:at] + struct.pack("<HHII", 256, 4, 1, 600000) + content[at + 12 :]
    with pytest.raises(ValueError, match=r"bomb\.tif has 600000x10000 pixels"):
        read_pages(bomb, "bomb.tif")


def test_kinds_that_do_not_go_together_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.float32), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", np.ones((4, 4), np.int16), photometric="minisblack")
    with pytest.raises(ValueError, match=r"a\.tif .*float32.* and b\.tif .*int16"):
        open_source(tmp_path)


def test_a_clip_of_two_samples_is_refused_as_frames(tmp_path):
    x = np.zeros((3, 4, 5, 2), np.uint8)
    options = {"photometric": "minisblack", "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", x, extrasamples=["unspecified"], **options)
    with pytest.raises(ValueError, match="2 samples of uint8 per pixel, which frames cannot have"):
        read_facts(tmp_path / "a.tif")


@pytest.mark.parametrize(("scale", "offset"), [("0.1", "0"), ("1", "-3"), ("1", "0")])
def test_numbers_that_gdal_scales_are_refused(tmp_path, scale, offset):
    text = (
        f'<GDALMetadata><Item name="SCALE" sample="0" role="scale">{scale}</Item>'
        f'<Item name="OFFSET" sample="0" role="offset">{offset}</Item></GDALMetadata>'
    )
    x = np.arange(48, dtype=np.int16).reshape(8, 6)
    tags = [(42112, 2, 0, text, True)]
    tifffile.imwrite(tmp_path / "a.tif", x, photometric="minisblack", metadata=None, extratags=tags)
    if (scale, offset) == ("1", "0"):
        assert np.array_equal(stored(open_source(tmp_path))[0], x)
        return
    with pytest.raises(ValueError, match=rf"GDAL's scale {scale} and offset {offset}"):
        open_source(tmp_path)
