import pytest
import torch
import torch.nn.functional as F

from iddpm.networks import SuperResUNet, UNet

MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}
SIZES = {1: ((12,), (5,)), 2: ((9, 12), (4, 5)), 3: ((3, 8, 9), (2, 4, 5))}


def small(dims, **options):
    network = SuperResUNet(
        dims=dims,
        in_channels=3,
        out_channels=6,
        model_channels=8,
        num_res_blocks=1,
        channel_mult=(1, 2),
        **options,
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.1)
    return network


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_is_a_unet_of_the_joined_channels(dims):
    network = small(dims)
    size, low_size = SIZES[dims]
    x, low = torch.randn(2, 3, *size), torch.randn(2, 3, *low_size)
    t = torch.tensor([3, 300])
    out = network(x, t, low)
    assert out.shape == (2, 6, *size)
    joined = torch.cat([x, F.interpolate(low, size, mode=MODES[dims])], dim=1)
    assert torch.equal(out, UNet.forward(network, joined, t))
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert not torch.equal(out, network(x, t, low + 1))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_its_features_see_the_low_resolution_in_every_dimension(dims):
    network = small(dims)
    size, low_size = SIZES[dims]
    x, low = torch.randn(2, 3, *size), torch.randn(2, 3, *low_size)
    t = torch.tensor([3, 300])
    features = network.features(x, t, low)
    assert torch.equal(network.out(features.up[-1]), network(x, t, low))
    assert not torch.equal(features.down[0], network.features(x, t, low + 1).down[0])


def test_classes_are_passed_on():
    network = small(2, num_classes=4)
    x, low, t = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4), torch.zeros(2)
    a = network(x, t, low, torch.tensor([0, 1]))
    b = network(x, t, low, torch.tensor([0, 3]))
    assert torch.equal(a[0], b[0])
    assert not torch.equal(a[1], b[1])
    assert network.features(x, t, low, torch.tensor([0, 1])).middle.shape[0] == 2


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (1, 3, 4, 4), (2, 3, 4)])
def test_a_low_resolution_that_does_not_fit_is_named(shape):
    with pytest.raises(ValueError, match=r"low_res.*\[2, 3, 8, 8\]"):
        small(2)(torch.randn(2, 3, 8, 8), torch.zeros(2), torch.randn(*shape))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_is_conditioned_on_the_noise_of_its_low_resolution(dims):
    network = small(dims, noise_levels=True)
    size, low_size = SIZES[dims]
    x, low, t = torch.randn(2, 3, *size), torch.randn(2, 3, *low_size), torch.zeros(2)
    noisy, less = torch.tensor([0.2, 0.3]), torch.tensor([0.2, 0.1])
    a, b = (network(x, t, low, low_res_noise=level) for level in (noisy, less))
    assert torch.allclose(a[0], b[0])
    assert not torch.allclose(a[1], b[1])
    features = network.features(x, t, low, low_res_noise=noisy)
    assert torch.equal(network.out(features.up[-1]), a)
    a.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in network.noise_embed.parameters())


def test_the_noise_level_starts_as_nothing_and_has_parameters_only_when_wanted():
    torch.manual_seed(0)
    options = {"dims": 1, "in_channels": 1, "out_channels": 1, "model_channels": 8,
               "num_res_blocks": 1, "channel_mult": (1,)}  # fmt: skip
    plain, conditioned = SuperResUNet(**options), SuperResUNet(**options, noise_levels=True)
    names = set(conditioned.state_dict()) - set(plain.state_dict())
    assert {name.split(".")[0] for name in names} == {"noise_embed"}
    x, t, low = torch.randn(2, 1, 8), torch.zeros(2), torch.randn(2, 1, 4)
    with torch.no_grad():
        for parameter in conditioned.out.parameters():
            parameter.normal_()
    a, b = (conditioned(x, t, low, low_res_noise=torch.full((2,), level)) for level in (0.0, 0.5))
    assert torch.equal(a, b)
    with pytest.raises(
        ValueError, match=r"not built with noise_levels, and was called with low_res_noise"
    ):
        plain(x, t, low, low_res_noise=torch.zeros(2))
    with pytest.raises(
        ValueError, match=r"was built with noise_levels, and was called without low_res_noise"
    ):
        conditioned(x, t, low)
