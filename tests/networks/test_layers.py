import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from iddpm.networks.convolution import conv_nd, conv_transpose_nd
from iddpm.networks.layers import (
    MANY,
    TokenLinear,
    avg_pool_nd,
    normalization,
    num_groups,
    resize_linear,
    timestep_embedding,
    zero_module,
)

SIZES = {1: (9,), 2: (9, 6), 3: (3, 9, 6)}


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_each_table_gives_the_layer_of_its_dimension(dims):
    x = torch.randn(2, 4, *SIZES[dims])
    assert conv_nd(dims, 4, 5, 3, padding=1)(x).shape == (2, 5, *SIZES[dims])
    up = conv_transpose_nd(dims, 4, 5, 4, stride=2, padding=1)(x)
    assert up.shape == (2, 5, *(2 * n for n in SIZES[dims]))
    down = avg_pool_nd(dims, kernel_size=2, stride=2, ceil_mode=True)(x)
    assert down.shape == (2, 4, *(math.ceil(n / 2) for n in SIZES[dims]))
    assert resize_linear(x, [n + 1 for n in SIZES[dims]]).shape[2:] == tuple(
        n + 1 for n in SIZES[dims]
    )


@pytest.mark.parametrize("make", [conv_nd, conv_transpose_nd, avg_pool_nd])
@pytest.mark.parametrize("dims", [0, 4])
def test_an_unknown_dimension_is_refused_by_number(make, dims):
    with pytest.raises(ValueError, match=f"dims={dims}"):
        make(dims, 4, 4, 3)


@given(channels=st.integers(1, 600))
@settings(deadline=None)
def test_groups_are_the_largest_divisor_up_to_32(channels):
    groups = num_groups(channels)
    assert groups <= 32
    assert channels % groups == 0
    assert not any(channels % n == 0 for n in range(groups + 1, 33))
    assert normalization(channels).num_groups == groups


@pytest.mark.parametrize(
    ("channels", "least", "groups"),
    [
        (128, 4, 32),
        (64, 4, 16),
        (32, 4, 8),
        (32, 1, 32),
        (8, 4, 2),
        (6, 4, 1),
        (3, 4, 1),
        (48, 4, 12),
    ],
)
def test_groups_are_as_many_as_leave_each_its_channels(channels, least, groups):
    assert num_groups(channels, least) == groups
    assert normalization(channels, least).num_groups == groups


def test_wide_groups_keep_the_level_that_groups_of_one_channel_lose():
    x = torch.randn(1, 8, 16).repeat(2, 1, 1)
    x[1] += torch.linspace(0, 3, 8)[:, None]  # another level in each channel
    lost, kept = normalization(8)(x), normalization(8, 4)(x)
    torch.testing.assert_close(lost[0], lost[1], atol=1e-5, rtol=1e-5)
    assert (kept[0] - kept[1]).abs().max() > 0.5


@pytest.mark.parametrize("size", [(9,), (MANY,), (3, 3), (MANY // 32, 32), (3, 3, 3)])
@pytest.mark.parametrize("gradient", [False, True])
def test_bfloat16_with_the_channels_last_is_normalized_and_stays_so(size, gradient):
    norm = normalization(8)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, *size, 8).bfloat16().movedim(-1, 1).requires_grad_(gradient)
    found = norm(x)
    expected = F.group_norm(x.detach().float(), 8, norm.weight, norm.bias)
    torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    assert len(size) == 3 or found.movedim(1, -1).is_contiguous()


def test_a_zeroed_module_is_zero_and_still_gets_a_gradient():
    layer = zero_module(conv_nd(2, 3, 4, 3, padding=1))
    x = torch.randn(2, 3, 5, 5)
    y = layer(x)
    assert not y.any()
    assert all(not p.any() for p in layer.parameters())
    (y - 1).square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.requires_grad
        assert parameter.grad.abs().max() > 0


def test_token_linear_is_a_pointwise_convolution_in_another_layout():
    layer = TokenLinear(6, 8)
    x = torch.randn(2, 6, 5)
    torch.testing.assert_close(layer(x.mT).mT, F.conv1d(x, layer.weight, layer.bias))
    assert layer.state_dict().keys() == nn.Conv1d(6, 8, 1).state_dict().keys()
    assert layer.weight.shape == (8, 6, 1)


def test_timestep_embedding_has_the_cosines_first():
    t = torch.tensor([0.0, 1.0, 250.5])
    embedding = timestep_embedding(t, 8)
    for column in range(4):
        frequency = 10000 ** (-column / 4)
        expected = torch.cos(t.double() * frequency).float()
        torch.testing.assert_close(embedding[:, column], expected, atol=1e-4, rtol=0)
        expected = torch.sin(t.double() * frequency).float()
        torch.testing.assert_close(embedding[:, 4 + column], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dim", [1, 3, 7])
def test_an_odd_width_is_padded_with_zero(dim):
    embedding = timestep_embedding(torch.tensor([3.0, 5.0]), dim)
    assert embedding.shape == (2, dim)
    assert not embedding[:, -1].any()
    assert torch.equal(embedding[:, :-1], timestep_embedding(torch.tensor([3.0, 5.0]), dim - 1))


def test_fractional_timesteps_are_honored_and_integers_equal_floats():
    assert not torch.equal(
        timestep_embedding(torch.tensor([10.5]), 16), timestep_embedding(torch.tensor([10]), 16)
    )
    integers = torch.tensor([0, 7, 3999])
    assert torch.equal(timestep_embedding(integers, 16), timestep_embedding(integers.float(), 16))
