"""Estimates from neighbors: against loops, at borders and on rings, and what they are for."""

import itertools

import pytest
import torch

from iddpm import LevelHead
from iddpm.networks.neighborhood import local_channels, local_estimate


def by_hand(x, said, radius, circular):
    """Every value by loops over items, channels, positions and neighbors."""
    channels, size = x.shape[1], x.shape[2:]
    offsets = [o for o in itertools.product(range(-radius, radius + 1), repeat=len(size)) if any(o)]
    logits = said[:, -len(offsets) :]
    means = torch.zeros_like(x)
    for n, at in itertools.product(range(len(x)), itertools.product(*map(range, size))):
        weights, values = [], []
        for k, offset in enumerate(offsets):
            there = [a + o for a, o in zip(at, offset, strict=True)]
            there = [t % s if ring else t
                     for t, s, ring in zip(there, size, circular, strict=True)]  # fmt: skip
            if all(0 <= t < s for t, s in zip(there, size, strict=True)):
                weights.append(logits[(n, k, *at)])
                values.append(x[(n, slice(None), *there)])
        weights = torch.softmax(torch.stack(weights), dim=0)
        means[(n, slice(None), *at)] = weights @ torch.stack(values)
    slopes = iter(range(2 * channels, 2 * channels + channels * (channels - 1)))
    center = means.clone()
    for c in range(channels):
        for d in [d for d in range(channels) if d != c]:
            center[:, c] += said[:, next(slopes)] * (x - means)[:, d]
    return torch.cat([center, said[:, : 2 * channels]], dim=1)


@pytest.mark.parametrize(
    ("channels", "size", "radius", "circular"),
    [
        (1, (7,), 4, (False,)),
        (2, (9,), 2, (True,)),
        (3, (4, 5), 2, (False, False)),
        (2, (6, 5), 1, (True, False)),
        (1, (3, 3, 4), 1, (False, False, True)),
    ],
)
def test_an_estimate_is_that_of_the_definition(channels, size, radius, circular):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    count = local_channels(channels, len(size), radius)
    said = torch.randn(2, count, *size, generator=generator, dtype=torch.float64)
    found = local_estimate(x, said, radius, circular)
    assert torch.allclose(found, by_hand(x, said, radius, circular), atol=1e-12)


def test_a_value_is_no_neighbor_of_itself():
    """Its own noise is in the likelihood already."""
    x = torch.zeros(1, 1, 6, dtype=torch.float64).requires_grad_()
    said = torch.zeros(1, local_channels(1, 1, 2), 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda v: local_estimate(v, said, 2)[0, 0], x
    )[:, 0, 0]  # fmt: skip
    assert not jacobian.diagonal().any()
    assert torch.allclose(jacobian.sum(dim=1), torch.ones(6, dtype=torch.float64))
    ring = local_estimate(torch.arange(3.0).reshape(1, 1, 3), said[..., :3].float(), 2, (True,))
    assert torch.allclose(ring[0, 0], torch.tensor([1.5, 1.0, 0.5]))  # each of the others twice


def test_data_of_one_value_stay_finite():
    x = torch.ones(1, 1, 1)
    assert local_estimate(x, torch.zeros(1, local_channels(1, 1, 4), 1), 4).isfinite().all()


class Inner(torch.nn.Module):
    def __init__(self, outputs):
        super().__init__()
        self.map = torch.nn.Conv2d(4, outputs, 3, padding=1)

    def forward(self, x, timesteps):
        return self.map(x)


@pytest.mark.parametrize("autocast", [False, True])
def test_the_head_averages_the_noisy_data_in_float32(autocast):
    """The last channels of the network say how; the first of its input are the data."""
    inner = Inner(2 * 3 + 5 + local_channels(2, 2, 1))
    head = LevelHead(inner, 2, 16, features=3, radius=1)
    x = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        said, weight, _, local = head(x, torch.zeros(2))
        expected = inner(x, None)
    assert (said.shape[1], tuple(weight.shape)) == (2 * 3 + 5, (2, 3, 16))
    assert torch.equal(said, expected[:, :11])
    assert local.dtype == torch.float32
    assert torch.equal(local, local_estimate(x[:, :2], expected[:, 11:], 1))
    local.square().sum().backward()
    assert inner.map.weight.grad[11:].abs().sum() > 0


def test_on_a_ring_the_head_follows_a_shift():
    inner = Inner(2 * 3 + local_channels(2, 2, 1))
    inner.map.padding_mode, inner.map._reversed_padding_repeated_twice = "circular", [1] * 4
    x = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for rings in ((True, True), (False, False)):
        head = LevelHead(inner, 2, 16, features=3, radius=1, circular=rings)
        moved = head(x.roll(2, dims=3), torch.zeros(1))[3]
        same = torch.allclose(moved, head(x, torch.zeros(1))[3].roll(2, dims=3), atol=1e-6)
        assert same == rings[0]
