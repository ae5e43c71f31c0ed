import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.picture import (
    UnreadablePictureError,
    fit,
    load_picture,
    read_header,
    to_array,
)


def read(path, *, channels, size=None):
    image, bits = load_picture(path)
    return to_array(image, channels=channels, size=size, bits=bits)


def write_png(path, *, depth, color_type, width=4, height=3):
    """Write a PNG that Pillow cannot write: 16 bits in each sample of color."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[color_type]
    rows = (b"\0" + b"\x12\x34" * (samples * width)) * height
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_every_mode_becomes_every_number_of_channels(mode, channels, tmp_path):
    suffix = "tif" if mode in ("CMYK", "YCbCr") else "png"
    path = tmp_path / f"a.{suffix}"
    Image.new("RGBA", (5, 4), (255, 255, 255, 255)).convert(mode).save(path)
    array = read(path, channels=channels)
    assert array.shape == (channels, 4, 5)
    assert array.dtype == np.uint8
    assert array.min() >= 253  # white stays white, CMYK and YCbCr included


def test_color_keeps_its_order(tmp_path):
    Image.new("RGB", (2, 2), (10, 20, 30)).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", channels=3)[:, 0, 0].tolist() == [10, 20, 30]


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 128))
    image.save(tmp_path / "a.png")
    assert read(tmp_path / "a.png", channels=3)[:, 0].T.tolist() == [[255] * 3, [127] * 3]
    assert read(tmp_path / "a.png", channels=1)[0, 0].tolist() == [255, 127]
    assert read(tmp_path / "a.png", channels=4)[3, 0].tolist() == [0, 128]


def test_a_transparent_palette_entry_is_laid_on_white(tmp_path):
    image = Image.new("P", (2, 1), 0)
    image.putpalette([0, 0, 0, 9, 9, 9])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    assert read(tmp_path / "a.png", channels=1)[0, 0].tolist() == [255, 9]
    assert read_header(tmp_path / "a.png").transparency


def test_exif_orientation_turns_picture_and_header(tmp_path):
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (8, 0, 16, 8))  # right half white
    exif = Image.Exif()
    exif[0x0112] = 6  # turn right by 90 degrees to show
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert read_header(tmp_path / "a.jpg").size == (16, 8)
    array = read(tmp_path / "a.jpg", channels=1)
    assert array.shape == (1, 16, 8)
    assert array[0, 2, 4] < 20
    assert array[0, 13, 4] > 235


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_tiff_of_any_orientation_is_turned_upright(compression, tmp_path):
    stored = np.arange(24, dtype=np.uint8).reshape(4, 6)
    ways = [
        stored, stored[:, ::-1], stored[::-1, ::-1], stored[::-1],
        stored.T, np.rot90(stored, -1), stored[::-1, ::-1].T, np.rot90(stored),
    ]  # fmt: skip
    path = tmp_path / "a.tif"
    for orientation, upright in enumerate(ways, 1):
        image = Image.fromarray(stored)
        image.save(path, tiffinfo={0x0112: orientation}, compression=compression)
        assert read_header(path).size == upright.shape
        assert np.array_equal(read(path, channels=1)[0], upright)


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bit_gray_is_exact(suffix, tmp_path):
    levels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5957 + 1
    Image.fromarray(levels).save(tmp_path / f"a.{suffix}")
    header = read_header(tmp_path / f"a.{suffix}")
    assert (header.bits, header.size) == (16, (3, 4))
    assert np.array_equal(read(tmp_path / f"a.{suffix}", channels=1)[0], levels)


def test_16_bit_gray_is_resized_in_16_bits(tmp_path):
    Image.fromarray(np.full((8, 8), 30001, np.uint16)).save(tmp_path / "a.png")
    array = read(tmp_path / "a.png", channels=1, size=(3, 5))
    assert array.dtype == np.uint16
    assert array.shape == (1, 3, 5)
    assert (array == 30001).all()


@pytest.mark.parametrize("color_type", [2, 4, 6])
def test_16_bit_color_is_refused_not_degraded(color_type, tmp_path):
    write_png(tmp_path / "deep.png", depth=16, color_type=color_type)
    for reader in (read_header, load_picture):
        with pytest.raises(ValueError, match=r"deep\.png holds 16-bit color"):
            reader(tmp_path / "deep.png")


def test_16_bit_color_ppm_is_refused(tmp_path):
    (tmp_path / "deep.ppm").write_bytes(b"P6 4 3 65535\n" + b"\x12\x34" * 36)
    with pytest.raises(ValueError, match="16-bit color"):
        read_header(tmp_path / "deep.ppm")


def test_a_16_bit_bmp_has_8_bits_a_sample(tmp_path):
    pixels = struct.pack("<HH", 0x001F, 0x7C00)  # blue and red in 5 + 5 + 5 bits
    masks = struct.pack("<III", 0xF800, 0x07E0, 0x001F)
    info = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    file = struct.pack("<2sIHHI", b"BM", 14 + 40 + 12 + 4, 0, 0, 66)
    (tmp_path / "a.bmp").write_bytes(file + info + masks + pixels)
    assert read_header(tmp_path / "a.bmp").bits == 8


def test_32_bit_samples_are_refused(tmp_path):
    Image.new("F", (2, 2), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(ValueError, match="float32 per pixel, which pictures cannot have"):
        read_header(tmp_path / "a.tif")


def test_signed_samples_are_refused(tmp_path):
    image = Image.fromarray(np.array([[1, 2]], np.uint16))
    image.save(tmp_path / "a.tif", tiffinfo={339: 2})  # the sample format: signed integers
    with pytest.raises(ValueError, match="int16 per pixel, which pictures cannot have"):
        read_header(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("suffix", "message"),
    [
        ("gif", "several frames.*read as clips"),
        ("webp", "several frames.*read as clips"),
        ("tif", "several frames.*read as clips"),
        ("png", "several frames.*read as clips"),
    ],
)
def test_no_first_frame_stands_for_an_animation(suffix, message, tmp_path):
    first, second = Image.new("L", (3, 2), 50), Image.new("L", (3, 2), 200)
    path = tmp_path / f"a.{suffix}"
    first.save(path, save_all=True, append_images=[second])
    for look in (read_header, load_picture):
        with pytest.raises(ValueError, match=rf"a\.{suffix} .*{message}"):
            look(path)
    first.save(path)
    assert (read(path, channels=1) == 50).all()


def test_fit_crops_the_center():
    image = Image.new("L", (30, 10), 0)
    image.paste(255, (10, 0, 20, 10))
    assert (np.asarray(fit(image, (10, 10))) == 255).all()
    # Shrinking looks a little past the cut, as it should: the picture goes on there.
    assert np.asarray(fit(image, (5, 5)))[:, 1:4].min() > 250


def test_fit_is_antialiased():
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    shrunk = np.asarray(fit(Image.fromarray(stripes), (8, 8)))
    assert np.abs(shrunk[:, 1:-1].astype(int) - 127).max() <= 2


def test_fit_leaves_a_picture_of_the_right_size_alone():
    image = Image.effect_noise((7, 5), 90)
    assert fit(image, (5, 7)) is image


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"hello", "is not a picture"), (b"\x89PNG\r\n\x1a\n", r"bad\.png is ")],
)
def test_what_is_no_picture_is_named(content, message, tmp_path):
    (tmp_path / "bad.png").write_bytes(content)
    for reader in (read_header, load_picture):
        with pytest.raises(UnreadablePictureError, match=message) as caught:
            reader(tmp_path / "bad.png")
        assert "bad.png" in str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "gif", "webp", "tif", "ppm"])
def test_a_truncated_picture_is_damaged(suffix, tmp_path):
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadablePictureError, match=rf"cut\.{suffix}"):
        load_picture(path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [150, 50])  # Pillow warns up to twice its limit, then raises
def test_a_decompression_bomb_is_refused(limit, tmp_path, monkeypatch):
    Image.new("L", (20, 10)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(UnreadablePictureError, match=rf"big\.png has .* limit of {limit}"):
        read_header(tmp_path / "big.png")


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_picture(tmp_path / "gone.png")
