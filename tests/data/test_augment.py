import numpy as np
import pytest

from iddpm.data.augment import SMALLEST_CROP, Flip, random_crop
from iddpm.runtime.seeds import stream

SHAPES = [(2, 40), (3, 20, 30), (1, 10, 12, 14)]


class Fixed:
    """A generator whose draws are known: every crop as small and as near the origin as it gets."""

    def random(self):
        return 0.0

    def uniform(self, low, high):
        return low

    def integers(self, high):
        return 0


@pytest.mark.parametrize(("shape", "axis"), [((3, 4, 5), -1), ((1, 3, 4, 5), 0), ((1, 3, 4, 5), 1)])
def test_flip_mirrors_its_axis_half_of_the_time(shape, axis):
    x = np.arange(np.prod(shape)).reshape(shape)
    reverse = [slice(None)] * x.ndim
    reverse[axis if axis < 0 else axis + 1] = slice(None, None, -1)
    flips = [Flip(axis)(x, stream(0, "t", index=i)) for i in range(400)]
    mirrored = [np.array_equal(flip, x[tuple(reverse)]) for flip in flips]
    assert np.logical_xor(mirrored, [np.array_equal(flip, x) for flip in flips]).all()
    assert 160 < sum(mirrored) < 240


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_crop_keeps_shape_dtype_and_a_constant(shape, dtype):
    x = np.full(shape, 0.5 if dtype == np.float32 else 200, dtype)
    for index in range(5):
        cropped = random_crop(x, stream(0, "t", index=index))
        assert (cropped.shape, cropped.dtype) == (shape, x.dtype)
        assert np.allclose(cropped, x, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_crop_enlarges_the_box_it_cuts(shape):
    spatial = shape[1:]
    ramp = np.linspace(-1, 1, spatial[-1], dtype=np.float32)
    x = np.broadcast_to(ramp, shape).copy()
    cropped = random_crop(x, Fixed())
    width = round(SMALLEST_CROP * spatial[-1])
    assert np.allclose(cropped[..., 0], x[..., 0], atol=0.05)
    assert np.allclose(cropped[..., -1], x[..., width - 1], atol=0.05)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_crop_stays_in_range(dtype):
    low, high = (-1.0, 1.0) if dtype == np.float32 else (0, np.iinfo(dtype).max)
    x = np.full((1, 16, 16), low, dtype)
    x[..., 8:] = high
    cropped = random_crop(x, Fixed())
    # Bicubic overshoots at an edge; cut off, the step still rises from low to high.
    assert (cropped.min(), cropped.max()) == (low, high)
    assert (np.diff(cropped.astype(np.float64), axis=-1) >= 0).all()


def test_crops_differ_and_repeat():
    x = np.random.default_rng(0).integers(0, 256, (1, 32, 32), np.uint8)
    first, again, other = (random_crop(x, stream(0, "t", index=i)) for i in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_single_value_can_be_cropped():
    assert random_crop(np.full((1, 1), 7, np.uint8), Fixed()).tolist() == [[7]]


def test_edges_overshoot_no_further_than_the_depth_of_the_data():
    x = np.zeros((1, 12, 12), np.uint16)
    x[:, 3:9, 3:9] = 4095  # a scan of 12 bits; bicubic interpolation overshoots
    crops = [random_crop(x, stream(0, "t", index=i), bits=12) for i in range(5)]
    assert max(int(crop.max()) for crop in crops) == 4095
    assert max(int(random_crop(x, stream(0, "t", index=i)).max()) for i in range(5)) > 4095
