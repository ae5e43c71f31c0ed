import itertools
import math

import pytest
import torch
from torch import nn

from iddpm.networks.attention import count_heads, self_attention
from iddpm.networks.blocks import (
    AttentionBlock,
    Downsample,
    ResBlock,
    TimestepBlock,
    TimestepEmbedSequential,
    Upsample,
    default_stride,
)
from iddpm.networks.convolution import conv_nd
from iddpm.networks.unet import join_skip

SIZES = {1: [(15,), (7,)], 2: [(7, 7), (10, 7)], 3: [(3, 7, 6), (1, 5, 4)]}
CASES = [(dims, size) for dims, sizes in SIZES.items() for size in sizes]


def randomise(module):
    """Give every parameter a random value: zeroed layers hide the gradients before them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.1)
    return module


def check_gradients(module):
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.any(), name


@pytest.mark.parametrize(("dims", "size"), CASES)
@pytest.mark.parametrize("kind", ["transpose", "nearest_conv", "nearest"])
def test_upsample_doubles_all_but_depth(dims, size, kind):
    out = 5 if kind == "nearest" else 3
    layer = Upsample(5, dims=dims, kind=kind, out_channels=out)
    y = layer(torch.randn(2, 5, *size))
    assert y.shape == (2, out, *(n * s for n, s in zip(size, default_stride(dims), strict=True)))
    if kind != "nearest":
        y.square().sum().backward()
        check_gradients(layer)


@pytest.mark.parametrize(("dims", "size"), CASES)
def test_both_downsamples_halve_all_but_depth_rounding_up(dims, size):
    x = torch.randn(2, 5, *size)
    expected = [math.ceil(n / s) for n, s in zip(size, default_stride(dims), strict=True)]
    for kind in ("conv", "avg_pool"):
        assert list(Downsample(5, dims=dims, kind=kind)(x).shape[2:]) == expected
    if dims == 3:
        assert expected[0] == size[0]


def test_strides_other_than_the_default_are_per_axis():
    x = torch.randn(1, 4, 4, 6, 8)
    assert Downsample(4, dims=3, stride=(2, 1, 2))(x).shape == (1, 4, 2, 6, 4)
    assert Upsample(4, dims=3, stride=(2, 1, 2))(x).shape == (1, 4, 8, 6, 16)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_average_of_a_single_slice_is_that_slice(dims):
    x = torch.randn(2, 4, 1, *[6] * (dims - 1))
    pooled = Downsample(4, dims=dims, kind="avg_pool", stride=(2,) * dims)(x)
    kept = Downsample(4, dims=dims, kind="avg_pool", stride=(1,) + (2,) * (dims - 1))(x)
    torch.testing.assert_close(pooled, kept)


@pytest.mark.parametrize(("layer", "kind"), [(Upsample, "nearest"), (Downsample, "avg_pool")])
def test_a_layer_without_weights_cannot_change_the_channels(layer, kind):
    with pytest.raises(ValueError, match=r"4 channels.*cannot give 7"):
        layer(4, kind=kind, out_channels=7)


def test_autocast_keeps_a_pooled_volume_in_bfloat16():
    x = torch.randn(1, 4, 3, 6, 6, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert Downsample(4, dims=3, kind="avg_pool")(x).dtype == torch.bfloat16


# --- smooth start --------------------------------------------------------------------------------


def inner(x, dims):
    return x[(..., *[slice(2, -2)] * dims)] if dims < 3 else x[..., 2:-2, 2:-2]


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_smooth_start_keeps_a_constant_constant(dims):
    x = torch.randn(2, 3)[(..., *[None] * dims)].expand(2, 3, *SIZES[dims][0])
    y = inner(Upsample(3, dims=dims)(x), dims)
    torch.testing.assert_close(y, x[(..., *[slice(0, 1)] * dims)].expand_as(y))
    plain = inner(Upsample(3, dims=dims, smooth_start=False)(x), dims)
    assert plain.std(dim=tuple(range(2, 2 + dims))).max() > 1e-3


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_smooth_start_keeps_a_ramp_a_ramp(dims):
    ramp = torch.arange(8.0)
    x = ramp.expand(1, 2, *[4] * (dims - 1), 8)
    y = inner(Upsample(2, dims=dims)(x), dims)
    slope = y.diff(dim=-1)
    torch.testing.assert_close(slope, torch.full_like(slope, 0.5))


def checkerboard(layer):
    """Return the share of the highest frequency in what the layer makes of smooth noise."""
    x = nn.functional.interpolate(torch.randn(4, 8, 4, 4), (32, 32), mode="bicubic")
    y = inner(layer(x), 2)
    window = torch.hann_window(y.shape[-1])  # the border itself holds high frequencies
    spectrum = torch.fft.fft2(y * window * window[:, None]).abs().square().mean(dim=(0, 1))
    n = spectrum.shape[0] // 2
    total = spectrum.sum() - spectrum[0, 0]
    return ((spectrum[n, n] + spectrum[n, 0] + spectrum[0, n]) / total).item()


@torch.no_grad()
def test_smooth_start_draws_no_checkerboard():
    smooth = checkerboard(Upsample(8))
    plain = checkerboard(Upsample(8, smooth_start=False))
    assert smooth < 1e-4
    assert plain > 100 * smooth


# --- residual blocks -----------------------------------------------------------------------------

OPTIONS = list(itertools.product([False, True], [None, 20], [False, True], ["", "up", "down"]))


@pytest.mark.parametrize(("dims", "size"), [(d, s[0]) for d, s in SIZES.items()])
@pytest.mark.parametrize(("film", "out", "use_conv", "resize"), OPTIONS)
def test_residual_block_options(dims, size, film, out, use_conv, resize):
    block = ResBlock(
        37,
        12,
        0.1,
        out_channels=out,
        use_conv=use_conv,
        use_scale_shift_norm=film,
        dims=dims,
        up=resize == "up",
        down=resize == "down",
    )
    x = torch.randn(2, 37, *size, requires_grad=True)
    emb = torch.randn(2, 12, requires_grad=True)
    stride = default_stride(dims)
    expected = {
        "": size,
        "up": tuple(n * s for n, s in zip(size, stride, strict=True)),
        "down": tuple(math.ceil(n / s) for n, s in zip(size, stride, strict=True)),
    }[resize]
    y = randomise(block)(x, emb)
    assert y.shape == (2, out or 37, *expected)
    y.square().sum().backward()
    check_gradients(block)
    assert x.grad.any()
    assert emb.grad.any()


def test_skip_connection_is_identity_1x1_or_3x3():
    assert isinstance(ResBlock(8, 4).skip_connection, nn.Identity)
    assert ResBlock(8, 4, out_channels=4).skip_connection.kernel_size == (1, 1)
    assert ResBlock(8, 4, out_channels=4, use_conv=True).skip_connection.kernel_size == (3, 3)


def test_an_untrained_block_is_its_skip_connection():
    x = torch.randn(2, 8, 5, 5)
    assert torch.equal(ResBlock(8, 4)(x, torch.randn(2, 4)), x)


@pytest.mark.parametrize("film", [False, True])
def test_the_embedding_enters_as_the_paper_says(film):
    block = randomise(ResBlock(8, 4, use_scale_shift_norm=film))
    x, emb = torch.randn(2, 8, 5, 5), torch.randn(2, 4)
    h = block.in_layers(x)
    e = block.emb_layers(emb)[..., None, None]
    norm, rest = block.out_layers[0], block.out_layers[1:]
    if film:
        expected = x + rest(norm(h) * (1 + e[:, :8]) + e[:, 8:])
    else:
        expected = x + rest(norm(h + e))
    torch.testing.assert_close(block(x, emb), expected)


def test_the_sequence_hands_the_embedding_to_those_that_take_it():
    class Seen(TimestepBlock):
        def forward(self, x, emb):
            return x + emb

    sequence = TimestepEmbedSequential(nn.Identity(), Seen(), nn.ReLU(), Seen())
    x, emb = torch.tensor([-5.0, 1.0]), torch.tensor([2.0, 3.0])
    assert torch.equal(sequence(x, emb), torch.relu(x + emb) + emb)
    with pytest.raises(TypeError):
        TimestepBlock()


# --- attention -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "size"), CASES)
@pytest.mark.parametrize("order", ["heads_first", "qkv_first"])
@pytest.mark.parametrize("heads", [{"num_heads": 4}, {"num_head_channels": 10}])
def test_attention_block_options(dims, size, order, heads):
    block = AttentionBlock(20, qkv_order=order, **heads)
    x = torch.randn(2, 20, *size, requires_grad=True)
    assert torch.equal(block(x), x)  # its projection starts at zero
    y = randomise(block)(x)
    assert y.shape == x.shape
    y.square().sum().backward()
    check_gradients(block)


def written_out(qkv, heads, order):
    """Attention by loops over heads, from [L, 3 C]."""
    length, width = qkv.shape
    d = width // 3 // heads
    out = []
    for head in range(heads):
        if order == "heads_first":
            q, k, v = qkv[:, head * 3 * d : (head + 1) * 3 * d].split(d, dim=1)
        else:
            q, k, v = (
                qkv[:, (part * heads + head) * d : (part * heads + head + 1) * d]
                for part in range(3)
            )
        weights = torch.softmax(q @ k.mT / math.sqrt(d), dim=-1)
        out.append(weights @ v)
    return torch.cat(out, dim=1).reshape(length, width // 3)


@pytest.mark.parametrize("order", ["heads_first", "qkv_first"])
def test_attention_equals_the_formula_written_out(order):
    qkv = torch.randn(2, 11, 3 * 12)
    expected = torch.stack([written_out(item, 3, order) for item in qkv])
    torch.testing.assert_close(self_attention(qkv, 3, order), expected)


def test_attention_runs_in_the_fused_kernel():
    qkv = torch.randn(2, 16, 3 * 32)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        self_attention(qkv, 4, "heads_first")
    names = {event.key for event in profile.key_averages()}
    assert "aten::bmm" not in names  # the fallback that forms the L x L weights
    assert any("flash" in name for name in names)


@pytest.mark.parametrize("channels_last", [False, True])
def test_blocks_keep_the_memory_layout(channels_last):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 8, 6, 6).contiguous(memory_format=layout)
    attention = randomise(AttentionBlock(8)).to(memory_format=layout)
    residual = randomise(ResBlock(8, 4)).to(memory_format=layout)
    assert attention(x).is_contiguous(memory_format=layout)
    assert residual(x, torch.randn(2, 4)).is_contiguous(memory_format=layout)


def test_bfloat16_signals_have_their_channels_last_from_the_first_convolution_on():
    """The slow kernels of channels first, and copies between the layouts, are then not met."""
    first, down, up = conv_nd(1, 1, 8, 3, padding=1), Downsample(8, dims=1), Upsample(8, dims=1)
    residual, attention = ResBlock(8, 4, dims=1), randomise(AttentionBlock(8))
    with torch.autocast("cpu", torch.bfloat16):
        skip = first(torch.randn(2, 1, 12))
        h = up(attention(residual(down(skip), torch.randn(2, 4))))
    for value in (skip, h, join_skip(h, skip)):
        assert value.dtype == torch.bfloat16
        assert value.mT.is_contiguous()


def test_heads_must_divide_the_channels():
    assert count_heads(12, 3, None) == 3
    assert count_heads(12, 5, 4) == 3
    with pytest.raises(ValueError, match=r"num_heads=5 .* 12 channels"):
        count_heads(12, 5, None)
    with pytest.raises(ValueError, match=r"num_head_channels=7 .* 12 channels"):
        count_heads(12, 1, 7)
    with pytest.raises(ValueError, match="num_heads=0"):
        count_heads(12, 0, None)
