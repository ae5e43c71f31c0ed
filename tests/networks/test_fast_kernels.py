"""The faster kernels for CPUs give what PyTorch's give, up to rounding, and exact gradients."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from iddpm.networks import UNet
from iddpm.networks.attention import self_attention
from iddpm.networks.dropout import Dropout
from iddpm.networks.kernels import use_fast_kernels
from iddpm.networks.layers import MANY, normalization
from iddpm.networks.norm_activation import NormActivation, Options, fits

SHAPES = [(2, 6, 5), (2, 6, 3, 2), (2, 4, 2, 3, 2)]


def channels_last(*shape, dtype=torch.float64):
    x = torch.randn(shape[0], *shape[2:], shape[1], dtype=dtype)
    return x.movedim(-1, 1).requires_grad_()


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("film", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_normalization_has_exact_gradients_of_both_orders(shape, film, silu):
    torch.manual_seed(0)
    x, groups = channels_last(*shape), 2
    weight, bias = (torch.randn(shape[1], dtype=x.dtype, requires_grad=True) for _ in "wb")
    more = [torch.randn(shape[:2], dtype=x.dtype, requires_grad=True) for _ in "sh"]
    given = (x, weight, bias, *(more if film else [None, None]))

    def run(*inputs):
        return NormActivation.apply(*inputs, Options(groups, 1e-5, silu))

    expected = F.group_norm(x, groups, weight, bias)
    if film:
        scale, shift = (m.reshape(*m.shape, *[1] * (x.dim() - 2)) for m in more)
        expected = expected * (1 + scale) + shift
    found = run(*given)
    torch.testing.assert_close(found, F.silu(expected) if silu else expected)
    assert found.stride() == x.stride()
    assert torch.autograd.gradcheck(run, given)
    assert torch.autograd.gradgradcheck(run, given, fast_mode=True)


def test_where_pytorch_is_faster_it_normalizes():
    narrow, wide = normalization(16, 4), normalization(64, 8)
    many = channels_last(1, 16, MANY, 1, dtype=torch.float32)
    small = channels_last(2, 16, 4, 4, dtype=torch.float32)
    assert fits(narrow, small)
    assert fits(narrow, many)
    assert not fits(narrow.eval(), many)
    assert not fits(narrow, small.bfloat16())
    assert not fits(narrow, small.contiguous())
    assert not fits(wide, channels_last(2, 64, 4, 4, dtype=torch.float32))


@pytest.mark.parametrize("order", ["heads_first", "qkv_first"])
def test_attention_by_products(order):
    torch.manual_seed(0)
    qkv = torch.randn(2, 9, 3 * 8).bfloat16()
    wide = qkv.double().requires_grad_()
    expected = self_attention(wide, 2, order)
    gradient = torch.randn(expected.shape, dtype=torch.float64)
    (of_input,) = torch.autograd.grad(expected, wide, gradient)
    qkv.requires_grad_()
    found = self_attention(qkv, 2, order, by_products=True)
    assert not torch.equal(found, self_attention(qkv, 2, order))  # it went another way
    torch.testing.assert_close(found.double(), expected, rtol=0.02, atol=0.02)
    (slope,) = torch.autograd.grad(found, qkv, gradient.bfloat16())
    torch.testing.assert_close(slope.double(), of_input, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_keeps_its_share_and_the_mean(dtype):
    torch.manual_seed(0)
    layer = Dropout(0.3)
    layer.fast = True
    x = torch.ones(50, 9, 13, 15).to(dtype).to(memory_format=torch.channels_last)
    y = layer(x)
    kept = y != 0
    count = x.numel()
    assert abs(kept.double().mean() - 0.7) < 4 * (0.21 / count) ** 0.5
    assert y[kept].unique().tolist() == [torch.tensor(1 / 0.7).to(dtype).item()] or (
        (y[kept] - 1 / 0.7).abs().max() < 1e-4
    )
    for axis in range(4):  # no pattern along an axis
        shares = kept.double().movedim(axis, 0).flatten(1).mean(1)
        each = count / len(shares)
        assert (shares - 0.7).abs().max() < 5 * (0.21 / each) ** 0.5
    torch.manual_seed(0)
    assert torch.equal(layer(x), y)
    assert y.stride() == x.stride()
    assert torch.equal(layer.eval()(x), x)


def small_unet(**options):
    torch.manual_seed(1)
    network = UNet(
        in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1, channel_mult=(1, 2),
        attention_downsampling=(2,), num_heads=2, group_channels=4, **options,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_network_gives_the_same_up_to_rounding(bf16):
    plain = small_unet()
    fast = copy.deepcopy(plain)
    use_fast_kernels(fast)
    x, t = torch.randn(2, 1, 12, 12), torch.tensor([1, 900])
    found = []
    for network in (plain, fast):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            y = network(x, t)
        y.float().square().sum().backward()
        found.append([y.detach().float(), *(p.grad for p in network.parameters())])
    assert any(not torch.equal(a, b) for a, b in zip(*found, strict=True))
    for a, b in zip(*found, strict=True):
        far = (a - b).norm() / (a.norm() + 1e-6)
        assert far < (0.1 if bf16 else 1e-4)


def test_recomputed_blocks_give_the_same_gradients():
    network = small_unet(dropout=0.3)
    use_fast_kernels(network)
    x, t = torch.randn(2, 1, 12, 12), torch.tensor([1, 900])
    found = []
    for recompute in (False, True):
        for block in network.checkpoint_blocks():
            block.use_checkpoint = recompute
        network.zero_grad()
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16):
            y = network(x, t)
        y.float().square().sum().backward()
        found.append([y.detach(), *(p.grad for p in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_an_export_holds_the_kernels_of_pytorch():
    network = small_unet().eval()
    x, t = torch.randn(2, 1, 12, 12), torch.tensor([1, 900])
    codes = []
    for _ in range(2):
        codes.append(torch.export.export(network, (x, t)).graph_module.code)
        use_fast_kernels(network)
    assert codes[0] == codes[1]
    assert "group_norm" in codes[0]


class Named(nn.Module):
    """A layer of somebody else's, in which the word means something of its own."""

    @property
    def fast(self):
        return "my own"


def test_layers_of_others_stay_as_they_are():
    network = nn.Sequential(small_unet(), Named())
    use_fast_kernels(network)
    assert network[1].fast == "my own"
    assert network[0].out[0].fast
