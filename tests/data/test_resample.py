"""Other resolutions against PyTorch's own in 2-D, closed forms elsewhere, and rings."""

import pytest
import torch
import torch.nn.functional as F

from iddpm.data.resample import enlarge_bicubic, shrink_bicubic, shrink_blur, shrink_box

SIZES = {1: (24,), 2: (24, 36), 3: (12, 24, 12)}


def noise(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [(2, 2), (3, 3), (4, 2), (1, 6)])
def test_bicubic_is_that_of_pytorch_both_ways(scale):
    x = noise(2, 3, 24, 36)
    size = [n // s for n, s in zip(x.shape[2:], scale, strict=True)]
    options = {"mode": "bicubic", "antialias": True}
    small = shrink_bicubic(x, scale)
    torch.testing.assert_close(small, F.interpolate(x, size, **options), rtol=0, atol=2e-6)
    back = enlarge_bicubic(small, (24, 36))
    torch.testing.assert_close(back, F.interpolate(small, (24, 36), **options), rtol=0, atol=2e-6)


@pytest.mark.parametrize("dims", [1, 3])
@pytest.mark.parametrize("scale", [2, 3])
def test_bicubic_of_a_product_is_the_product_along_each_axis(dims, scale):
    """Of signals and volumes PyTorch has none; a row of a picture is a signal."""
    parts = [noise(1, 1, 12) + axis for axis in range(dims)]

    def of_a_signal(x):
        rows = x[:, :, None].expand(-1, -1, 12, -1)
        small = F.interpolate(rows, (12, 12 // scale), mode="bicubic", antialias=True)
        return small[0, 0, 0]

    letters = "abc"[:dims]
    outer = ",".join(letters) + "->" + letters
    x = torch.einsum(outer, *(part[0, 0] for part in parts))[None, None]
    wanted = torch.einsum(outer, *map(of_a_signal, parts))
    found = shrink_bicubic(x, (scale,) * dims)[0, 0]
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("dims", "pool"), [(1, F.avg_pool1d), (2, F.avg_pool2d), (3, F.avg_pool3d)]
)
def test_a_box_is_the_mean_of_its_block(dims, pool):
    x = noise(2, 3, *SIZES[dims])
    for scale in ((2, 3, 4)[:dims], (1, 2, 1)[:dims]):
        torch.testing.assert_close(shrink_box(x, scale), pool(x, scale))


@pytest.mark.parametrize("scale", [2, 3])
def test_a_blur_is_the_weighted_mean_around_the_middle(scale):
    x, sigma = noise(1, 1, 24).double(), 0.8
    found = shrink_blur(x, (scale,), sigma=sigma)
    for place in range(24 // scale):
        distance = torch.arange(24.0).double() - ((place + 0.5) * scale - 0.5)
        weight = torch.exp(-(distance**2) / (2 * sigma**2)) * (distance.abs() <= 4 * sigma)
        wanted = (weight * x[0, 0]).sum() / weight.sum()
        torch.testing.assert_close(found[0, 0, place], wanted)


def test_a_blur_has_half_the_scale_and_leaves_other_axes_alone():
    x = noise(1, 2, 12, 24)
    assert torch.equal(shrink_blur(x, (1, 4)), shrink_blur(x, (1, 4), sigma=2.0))
    assert not torch.allclose(shrink_blur(x, (1, 4)), shrink_blur(x, (1, 4), sigma=1.0))
    rows = [shrink_blur(row, (4,)) for row in x.unbind(2)]
    torch.testing.assert_close(shrink_blur(x, (1, 4)), torch.stack(rows, dim=2))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("shrink", [shrink_bicubic, shrink_blur])
def test_a_ring_is_endless_copies(dims, shrink):
    x, scale, ring = noise(2, 1, *SIZES[dims]), (2,) * dims, (True,) * dims
    copies = shrink(x.repeat(1, 1, *[3] * dims), scale)
    for axis, n in enumerate(SIZES[dims], start=2):
        copies = copies.narrow(axis, n // 2, n // 2)
    small = shrink(x, scale, ring)
    torch.testing.assert_close(small, copies, rtol=0, atol=2e-6)
    assert not torch.allclose(shrink(x, scale), copies, atol=1e-3)
    again = enlarge_bicubic(small.repeat(1, 1, *[3] * dims), [3 * n for n in SIZES[dims]])
    for axis, n in enumerate(SIZES[dims], start=2):
        again = again.narrow(axis, n, n)
    torch.testing.assert_close(enlarge_bicubic(small, SIZES[dims], ring), again, atol=2e-6, rtol=0)


@pytest.mark.parametrize("shrink", [shrink_box, shrink_bicubic, shrink_blur])
def test_what_does_not_change_stays_and_a_ramp_keeps_its_place(shrink):
    """Constants are kept up to the ends; inside, a ramp is read at the middle of each block."""
    flat = torch.full((1, 1, 8, 8), 0.7)
    torch.testing.assert_close(shrink(flat, (2, 4)), torch.full((1, 1, 4, 2), 0.7))
    ramp = torch.arange(60.0).double().reshape(1, 1, 60)
    found = shrink(ramp, (3,))[0, 0]
    torch.testing.assert_close(found[4:-4], (3 * torch.arange(20.0).double() + 1)[4:-4])


def test_an_axis_shorter_than_the_kernel():
    x = noise(1, 1, 2)
    assert torch.allclose(shrink_bicubic(x, (2,)), x.mean(dim=2, keepdim=True))
    assert torch.allclose(shrink_blur(x, (2,), (True,)), x.mean(dim=2, keepdim=True))
