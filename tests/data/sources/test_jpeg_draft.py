"""JPEG files decoded at a fraction of their size give what all of their pixels give."""

import io

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources import jpeg_draft
from iddpm.data.sources.picture import load_picture, to_array


def photo(width, height, seed=0):
    """Return a picture whose detail falls with the frequency, as that of photos does."""
    generator = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    noise = np.fft.rfft2(generator.normal(size=(4, height, width))) / frequency
    planes = np.fft.irfft2(noise, (height, width))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    pixels = 128 + 50 * planes[0] + 20 * planes[1:]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, **({"format": "JPEG", "quality": 92} | options))
    return file.getvalue()


def both(data, size, channels=3):
    """Return the pixels from all that was decoded, those from a fraction, and that fraction."""
    whole, _ = load_picture(data, "a.jpg")
    part, _ = load_picture(data, "a.jpg", size)
    arrays = [to_array(image, channels=channels, size=size, bits=8) for image in (whole, part)]
    return (*(a.astype(int) for a in arrays), part.width / whole.width)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize("size", [(16, 16), (32, 32), (24, 40)])
@pytest.mark.parametrize("shape", [(512, 384), (509, 387)])
def test_the_result_is_that_of_all_pixels(shape, size, subsampling):
    whole, part, fraction = both(encoded(photo(*shape), subsampling=subsampling), size)
    assert fraction < 0.51
    difference = np.abs(whole - part)
    assert difference.mean() < 0.5
    assert np.quantile(difference, 0.99) <= 2
    shifted = np.abs(whole[..., 1:] - whole[..., :-1])  # what a pixel to the side would give
    assert shifted.mean() > 10 * difference.mean()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_it_is_turned_and_lies_where_it_did(orientation):
    """Sizes that no fraction divides: the part that is left over is on another side each time."""
    exif = Image.Exif()
    exif[jpeg_draft.ORIENTATION] = orientation
    ramp = np.add.outer(np.arange(127) * 1.3, np.arange(201) * 0.4).astype(np.uint8)
    data = encoded(Image.fromarray(ramp), exif=exif, quality=100)
    whole, part, fraction = both(data, (9, 11), channels=1)
    assert fraction < 0.51
    assert np.abs(whole - part).max() <= 1
    assert np.ptp(whole) > 100


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_modes(mode):
    whole, part, fraction = both(encoded(photo(256, 256).convert(mode)), (16, 16))
    assert fraction < 0.51
    assert np.abs(whole - part).mean() < 0.7


def test_a_photo_with_a_second_picture_in_it():
    first, second = photo(256, 256), photo(64, 64, seed=1)
    data = encoded(first, format="MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    whole, part, fraction = both(data, (16, 16))
    assert fraction < 0.51
    assert np.abs(whole - part).mean() < 0.5


def test_what_is_not_much_larger_is_decoded_whole():
    whole, part, fraction = both(encoded(photo(64, 64)), (16, 16))
    assert fraction == 1
    assert (whole == part).all()
    file = io.BytesIO()
    photo(256, 256).save(file, "PNG")
    assert both(file.getvalue(), (16, 16))[2] == 1
