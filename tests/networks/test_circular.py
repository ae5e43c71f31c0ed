"""Periodic data: shifting what a network is given shifts what it returns."""

import pytest
import torch

from iddpm.builders import build_network, resolve
from iddpm.config import read_config
from iddpm.networks import EncoderUNet, SuperResUNet, UNet
from iddpm.networks.layers import resize_linear
from tests.conftest import TINY

SIZE = {1: (12,), 2: (8, 12), 3: (4, 8, 4)}
STRIDE = {1: (2,), 2: (2, 2), 3: (2, 2, 1)}
RESIZING = [
    {"upsample": up, "downsample": down}
    for up in ("transpose", "nearest_conv", "nearest")
    for down in ("conv", "avg_pool")
] + [{"resblock_updown": True}]


def network(dims, make=UNet, **options):
    """Return a network of three levels with attention, its parameters random, zeroed ones too."""
    defaults = {
        "dims": dims,
        "in_channels": 2,
        "out_channels": 2,
        "model_channels": 8,
        "num_res_blocks": 1,
        "channel_mult": (1, 1, 2),
        "attention_downsampling": (2,),
        "stride": STRIDE[dims],
        "circular": True,
    }
    made = make(**{**defaults, **options})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(std=0.1, generator=generator)
    return made.eval()


def seam(made, shifts, size, **more):
    """Return how far shift and network are from commuting, relative to the largest output."""
    axes = tuple(range(2, 2 + len(size)))
    x = torch.randn(2, 2, *size, generator=torch.Generator().manual_seed(1))
    t = torch.tensor([3.0, 700.0])
    with torch.no_grad():
        y = made(x, t)
        moved = made(x.roll(shifts, axes), t)
    return float((moved - y.roll(shifts, axes)).abs().max() / y.abs().max())


@pytest.mark.parametrize("resizing", RESIZING, ids=lambda o: "-".join(map(str, o.values())))
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_shifting_the_input_shifts_the_output(dims, resizing):
    total = tuple(s**2 for s in STRIDE[dims])
    ring, plain = network(dims, **resizing), network(dims, circular=False, **resizing)
    assert ring.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(ring.state_dict())  # checkpoints fit both
    assert seam(ring, total, SIZE[dims]) < 1e-5
    assert seam(ring, [-s for s in total], SIZE[dims]) < 1e-5
    assert seam(plain, total, SIZE[dims]) > 1e-3


def test_a_panorama_is_periodic_along_its_width_alone():
    panorama = network(2, circular=(False, True))
    assert seam(panorama, (0, 4), SIZE[2]) < 1e-5
    assert seam(panorama, (4, 0), SIZE[2]) > 1e-3


def test_an_axis_that_keeps_its_size_may_have_any():
    assert seam(network(3), (0, 0, 1), (4, 4, 5)) < 1e-5


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_super_resolution_has_no_seam_either(dims):
    made = network(dims, SuperResUNet)
    size, axes = SIZE[dims], tuple(range(2, 2 + dims))
    x, t = torch.randn(1, 2, *size), torch.zeros(1)
    low = torch.randn(1, 2, *(n // 2 for n in size))
    shift = tuple(4 for _ in size)
    with torch.no_grad():
        y = made(x, t, low)
        moved = made(x.roll(shift, axes), t, low.roll([s // 2 for s in shift], axes))
    torch.testing.assert_close(moved, y.roll(shift, axes), rtol=0, atol=1e-5 * float(y.abs().max()))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("scale", [2, 1.5, 0.5])
def test_resizing_a_ring_is_resizing_endless_copies(dims, scale):
    size = SIZE[dims]
    new = [int(n * scale) for n in size]
    x = torch.randn(2, 3, *size)
    ring = resize_linear(x, new, [True] * dims)
    y = resize_linear(x.repeat(1, 1, *[3] * dims), [3 * n for n in new])
    for axis, n in enumerate(new, start=2):
        y = y.narrow(axis, n, n)
    torch.testing.assert_close(ring, y)
    if scale > 1:
        assert not torch.allclose(resize_linear(x, new), y, atol=1e-3)


def test_a_ring_that_the_levels_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 10\) is 10 along the periodic axis 1.*of 4"):
        network(2)(torch.zeros(1, 2, 8, 10), torch.zeros(1))
    settings = [*TINY, "model.channels=1", "model.size=[8,7]", "model.circular=[false,true]"]
    with pytest.raises(ValueError, match="is 7 along the periodic axis 1"):
        resolve(read_config(None, settings))


@pytest.mark.parametrize("make", [UNet, EncoderUNet])
def test_one_boolean_for_each_axis(make):
    with pytest.raises(ValueError, match=r"circular=\(True,\).*2 axes"):
        network(2, make, circular=(True,))


@pytest.mark.parametrize("value", ["true", "[true,true]"])
def test_the_setting_reaches_the_network(value):
    settings = [*TINY, "model.channels=1", "model.size=[8,8]", f"model.circular={value}"]
    config = resolve(read_config(None, settings))
    assert build_network(config).circular == (True, True)
    assert read_config(None, settings).model.circular == config.model.circular
    with pytest.raises(ValueError, match=r"model\.circular='ring'"):
        read_config(None, ["model.circular=ring"])
