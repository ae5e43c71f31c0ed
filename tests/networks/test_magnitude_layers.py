"""Layers that preserve magnitudes: expectations by quadrature and in closed form."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from iddpm.networks.magnitude_blocks import BlockOptions, MagnitudeAttention
from iddpm.networks.magnitude_layers import (
    SILU_MAGNITUDE,
    MagnitudeConv,
    MagnitudeEmbedding,
    MagnitudeFeatures,
    MagnitudeLinear,
    MagnitudeStem,
    magnitude_cat,
    magnitude_embedding,
    magnitude_silu,
    magnitude_sum,
    normal_frequencies,
    to_unit,
    unit_weight,
)


def magnitude(x, dim=None):
    return x.double().square().mean(dim).sqrt()


def test_the_constant_of_silu_is_its_magnitude_for_normal_inputs():
    places, weights = np.polynomial.hermite_e.hermegauss(80)
    silu = places / (1 + np.exp(-places))
    exact = math.sqrt((weights @ silu**2) / weights.sum())
    assert exact == pytest.approx(SILU_MAGNITUDE, abs=5e-4)  # three digits, as printed
    x = torch.tensor([-1.0, 2.0])
    assert torch.equal(magnitude_silu(x), torch.nn.functional.silu(x) / 0.596)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_a_sum_and_a_concatenation_keep_magnitudes_and_weigh_by_the_share(share):
    """Orthogonal inputs of magnitude 1 have results of magnitude 1 exactly."""
    a = to_unit(torch.randn(5, 3 * 8, dtype=torch.float64), 1)
    b = torch.randn(5, 3 * 8, dtype=torch.float64)
    b = to_unit(b - (a * b).mean(1, keepdim=True) * a, 1)
    total = magnitude_sum(a, b, share)
    assert torch.allclose(magnitude(total, 1), torch.ones(5).double(), atol=1e-6)
    assert torch.allclose(
        (total * b).mean(1), torch.tensor(share / math.hypot(share, 1 - share)).double(), atol=1e-6
    )
    wide, narrow = a.reshape(5, 3, 8), b.reshape(5, 3, 8)[:, :1]
    narrow = to_unit(narrow.flatten(1), 1).reshape(5, 1, 8)
    both = magnitude_cat(wide, narrow, share)
    assert both.shape == (5, 4, 8)
    assert torch.allclose(magnitude(both.flatten(1), 1), torch.ones(5).double(), atol=1e-6)
    influence = both[:, 3:].square().sum((1, 2)) / both.square().sum((1, 2))
    wanted = share**2 / (share**2 + (1 - share) ** 2)
    assert torch.allclose(influence, torch.full((5,), wanted).double(), atol=1e-6)


def test_every_embedding_of_time_has_magnitude_one_and_tells_times_apart():
    times = torch.tensor([-300.0, 0.0, 0.5, 499.0, 999.0, 1900.0])
    for width in (8, 9, 64):
        embedded = magnitude_embedding(times, normal_frequencies(width // 2), width)
        assert embedded.shape == (6, width)
        assert torch.allclose(magnitude(embedded, 1).float(), torch.ones(6), atol=1e-5)
    embedded = magnitude_embedding(torch.arange(1000), normal_frequencies(32), 64)
    assert torch.cdist(embedded, embedded).fill_diagonal_(9).min() > 1e-3


def test_frequencies_are_those_of_half_a_normal_distribution():
    found = torch.tensor(normal_frequencies(1000))
    shares = torch.special.ndtr(found.double()) * 2 - 1
    assert torch.allclose(shares, (torch.arange(1000).double() + 0.5) / 1000, atol=1e-6)


def filled(layer, seed=0):
    """Fill every weight with numbers of any scale and force them, as training does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(7 * torch.randn(parameter.shape, generator=generator) ** 3)
    for module in layer.modules():
        if hasattr(module, "normalize_weights"):
            module.normalize_weights()
    return layer


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_convolution_maps_each_unit_direction_to_a_unit_of_energy(dims, kernel):
    """Summed over a basis of inputs, the squares of an output are the norm of its weight: 1."""
    channels, size = 3, (4,) * dims
    conv = filled(MagnitudeConv(dims, channels, 5, kernel, (True,) * dims)).double()
    count = channels * math.prod(size)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, channels, *size)
    energy = conv(basis).square().sum(0)
    assert torch.allclose(energy, torch.ones_like(energy), atol=1e-6)
    assert torch.allclose(conv(basis, 3.0), 3 * conv(basis))
    stored = conv.conv.weight.flatten(1)
    assert torch.allclose(magnitude(stored, 1), torch.ones(5).double(), atol=1e-6)


def test_linear_maps_tables_and_features():
    linear = filled(MagnitudeLinear(6, 4)).double()
    energy = linear(torch.eye(6).double()).square().sum(0)
    assert torch.allclose(energy, torch.ones(4).double(), atol=1e-6)
    table = filled(MagnitudeEmbedding(3, 16))
    assert torch.allclose(magnitude(table(torch.tensor([0, 2, 2])), 1).float(), torch.ones(3))
    features = filled(MagnitudeFeatures(5, 16))
    x = torch.randn(2, 5)
    assert torch.allclose(features(x), features(100 * x), atol=1e-5)


def test_the_first_layer_sees_a_constant_beside_the_data():
    stem = MagnitudeStem(2, 1, 4, (True, True))
    empty = stem(torch.zeros(1, 1, 4, 4))
    assert torch.allclose(empty, empty[..., :1, :1].expand_as(empty), atol=1e-6)
    assert empty.abs().min() > 0


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_stored_weight_acts_alike_at_any_scale_and_its_gradient_is_orthogonal_to_it(scale):
    weight = nn.Parameter(scale * torch.randn(4, 3, 3, dtype=torch.float64))
    x = torch.randn(2, 3, 3, dtype=torch.float64)
    y = torch.einsum("ock,nck->no", unit_weight(weight), x)
    y.square().sum().backward()
    overlap = (weight.grad * weight).sum((1, 2)) / weight.grad.norm() / weight.norm()
    assert overlap.abs().max() < 1e-6  # the norm is of float32
    assert torch.allclose(unit_weight(weight).flatten(1).norm(dim=1), torch.ones(4).double())


def test_zeros_stay_zeros_forward_and_backward():
    x = torch.zeros(2, 3, requires_grad=True)
    y = to_unit(x, 1)
    y.sum().backward()
    assert not y.any()
    assert x.grad.isfinite().all()
    assert not unit_weight(torch.zeros(2, 3)).any()


def test_attention_compares_directions_alone():
    """Cosine attention: scaling what enters scales nothing of its branch."""
    attention = filled(MagnitudeAttention(8, 2, BlockOptions(4)))
    x = torch.randn(2, 8, 5)
    branch = attention(x) - 0.7 / math.hypot(0.7, 0.3) * x
    scaled = attention(10 * x) - 0.7 / math.hypot(0.7, 0.3) * 10 * x
    assert torch.allclose(branch, scaled, atol=1e-4)
    assert branch.abs().max() > 0.01
