"""Color profiles, held against the arithmetic of two matrices and two curves."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from iddpm.data.sources.picture import load_picture, to_array

ADOBE = np.array(  # primaries of Adobe RGB (1998) under D50, columns red, green, blue
    [[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]]
)
SRGB = np.array(
    [[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]]
)
GAMMA = 563 / 256


def profile(space: bytes = b"RGB ") -> bytes:
    """Return an ICC profile of version 2: Adobe RGB's primaries, or a gray of the same curve."""

    def xyz(values):
        return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in values))

    text = b"like Adobe RGB\0"
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(79),
        b"wtpt": xyz((0.9642, 1.0, 0.8249)),
    }
    if space == b"RGB ":
        for number, letter in enumerate(b"rgb"):
            tags[bytes([letter]) + b"XYZ"] = xyz(ADOBE[:, number])
            tags[bytes([letter]) + b"TRC"] = curve
    else:
        tags[b"kTRC"] = curve
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, value in tags.items():
        table += name + struct.pack(">2I", start + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = bytearray(128)
    header[0:4] = struct.pack(">I", start + len(body))
    header[8:12] = b"\2\x40\0\0"
    header[12:24] = b"mntr" + space + b"XYZ "
    header[36:40] = b"acsp"
    header[68:80] = struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    return bytes(header) + table + body


def expected(pixels: np.ndarray) -> np.ndarray:
    """Return sRGB levels [..., 3] of Adobe RGB levels, by the definition of both."""
    linear = np.linalg.solve(SRGB, ADOBE @ ((pixels / 255.0) ** GAMMA)[..., None])[..., 0]
    linear = linear.clip(0, 1)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return 255 * curve


def colors() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def saved(image: Image.Image, kind: str, icc: bytes | None) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, icc_profile=icc)
    return stream.getvalue()


def read(data: bytes, channels: int) -> np.ndarray:
    image, bits = load_picture(data, "a picture")
    return np.moveaxis(to_array(image, channels=channels, size=None, bits=bits), 0, -1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_adobe_rgb_is_converted(kind, mode):
    pixels = colors()
    image = Image.fromarray(pixels)
    alpha = Image.fromarray(pixels[..., 0])
    if mode == "RGBA":
        image.putalpha(alpha)
    stream = io.BytesIO()
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    image.save(stream, kind, icc_profile=profile(), **options)
    with pytest.warns(UserWarning, match="'like Adobe RGB', such as a picture, are converted"):
        found = read(stream.getvalue(), len(mode))
    assert np.abs(found[..., :3] - expected(pixels)).max() < 2
    assert np.abs(expected(pixels) - pixels).max() > 20, "or nothing would have to be done"
    if mode == "RGBA":
        assert (found[..., 3] == np.asarray(alpha)).all()


def test_gray_stays_gray():
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = saved(Image.fromarray(pixels), "PNG", profile(b"GRAY"))
    with pytest.warns(UserWarning, match="are converted to sRGB"):
        found = read(data, 1)[..., 0]
    assert load_picture(data)[0].mode == "L"
    linear = (pixels / 255.0) ** GAMMA
    wanted = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(found - 255 * wanted).max() < 2


def test_srgb_costs_nothing_and_keeps_every_level():
    pixels = colors()
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (read(saved(Image.fromarray(pixels), "PNG", icc), 3) == pixels).all()
        assert (read(saved(Image.fromarray(pixels), "PNG", None), 3) == pixels).all()


@pytest.mark.parametrize("icc", [b"no profile", profile(b"GRAY"), profile()[:200]])
def test_a_profile_that_does_not_fit_is_warned_of(icc):
    pixels = colors()
    with pytest.warns(UserWarning, match="a color profile that does not fit"):
        assert (read(saved(Image.fromarray(pixels), "PNG", icc), 3) == pixels).all()
