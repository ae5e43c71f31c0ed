"""The table of steps against the bound of each path, computed directly."""

import math
from itertools import pairwise

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, linear
from iddpm.evaluation.bound_terms import ItemNoise, process, whole_bounds
from iddpm.evaluation.chebyshev import chebyshev_points, interpolation
from iddpm.evaluation.step_costs import Group, StepTable, measure_steps
from iddpm.evaluation.stride import optimal_timesteps
from tests.exact import entropy_and_gap, eps_power, gaussian_denoiser, quadrature

SHAPE = (1, 4, 4)
OWN = ["learned_range", "learned", "fixed_small", "fixed_large"]


class Network(torch.nn.Module):
    """Any smooth function of x and time, with variance channels beyond [-1, 1] when ``learns``."""

    def __init__(self, learns):
        super().__init__()
        self.learns = learns

    def forward(self, x, shown):
        time = shown.reshape(-1, 1, 1, 1) / 1000
        mean = torch.tanh(x * (0.5 + 0.5 * time))
        if not self.learns:
            return mean
        offset = 0 if self.learns == "learned_range" else -4 + 3 * time
        return torch.cat([mean, 1.5 * torch.sin(3 * x + time) + offset], dim=1)


def measured(whole, variance, *, clip=True, bits=8, items=5, group=3):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randint(0, 256, (items, *SHAPE), generator=generator).double() / 127.5 - 1
    learns = variance if variance.startswith("learned") else ""
    denoiser = Denoiser(Network(learns), GaussianDiffusion(whole, variance), "v")
    groups = [
        Group(x0[a : a + group], ItemNoise(0, range(a, min(a + group, items)), SHAPE), {})
        for a in range(0, items, group)
    ]
    table = measure_steps(denoiser, denoiser.diffusion, groups, bits=bits, clip=clip)
    return denoiser, x0, ItemNoise(0, range(items), SHAPE), table


def cost(table, variance, kept):
    pairs, decoders = table.pairs(variance), table.decoders(variance)
    return sum(float(pairs[s, t]) for s, t in pairwise(kept)) + float(decoders[kept[1]])


@pytest.mark.parametrize("own", OWN)
@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize(("clip", "bits"), [(True, 8), (False, None), (True, 16)])
def test_the_cost_of_a_path_is_its_measured_bound(own, make, clip, bits):
    whole = make(100)
    denoiser, x0, noise, table = measured(whole, own, clip=clip, bits=bits)
    for kind in {own, "fixed_small", "analytic"}:
        analytic = table.analytic if kind == "analytic" else None
        for kept in ([0, 99], [0, 1, 99], [0, 3, 4, 25, 60, 99], range(100)):
            each = process(whole, kept, kind, analytic)
            (bound,) = whole_bounds(denoiser, [each], x0, noise, bits=bits, clip=clip)
            direct = float((bound.steps + bound.decoder).mean())
            assert cost(table, kind, list(kept)) == pytest.approx(direct, rel=1e-8), (kind, kept)


def test_more_points_change_nothing(monkeypatch):
    whole = linear(400)
    tables = []
    for points in (32, 48):
        monkeypatch.setattr("iddpm.evaluation.step_costs.POINTS", points)
        *_, table = measured(whole, "learned_range", items=2)
        tables.append(table.pairs("learned_range"))
    finite = tables[0].isfinite()
    assert torch.allclose(tables[0][finite], tables[1][finite], rtol=1e-8, atol=1e-12)


def test_the_analytic_variance_of_exact_estimates_costs_the_entropy():
    """Whatever the path; and its scalars are those known in closed form."""
    m, s, whole = 0.2, 0.5, cosine(25)
    x0, eps, weights = quadrature(m, s)
    # A weighted mean over nine points, as repeated items: weights are multiples of 1 / 36.
    repeats = (weights * 36).round().long()
    x0, eps = x0.repeat_interleave(repeats, 0), eps.repeat_interleave(repeats, 0)
    diffusion = GaussianDiffusion(whole, "fixed_small")
    groups = [Group(x0, lambda t: eps, {})]
    table = measure_steps(gaussian_denoiser(m, s), diffusion, groups, bits=None, clip=False)
    assert torch.allclose(table.eps_power, eps_power(s, whole), rtol=1e-12)
    entropy, gap = entropy_and_gap(m, s, whole)
    last = float(whole.alpha_bar[-1])
    # prior of the bound, with x0 fixed: E KL(q(x_T | x0) || N(0, 1))
    prior = 0.5 * (last * (m**2 + s**2) - last - math.log(1 - last)) / math.log(2)
    for kept in ([0, 24], [0, 5, 24], list(range(25))):
        assert cost(table, "analytic", kept) == pytest.approx(entropy + gap - prior, abs=1e-9)


def test_a_table_survives_storing():
    *_, table = measured(cosine(10), "learned_range")
    again = StepTable.from_tensors(table.schedule, table.variance, table.tensors())
    assert torch.equal(again.pairs("learned_range"), table.pairs("learned_range"))
    with pytest.raises(ValueError, match=r"'learned' was requested from .* variance 'learned_"):
        table.pairs("learned")


def test_optimal_steps_of_a_real_table_beat_even_ones():
    whole = cosine(100)
    *_, table = measured(whole, "fixed_small")
    pairs, decoders = table.pairs("fixed_small"), table.decoders("fixed_small")
    best = optimal_timesteps(pairs, decoders, 8)
    even = [round(k * 99 / 7) for k in range(8)]
    assert cost(table, "fixed_small", best) < 0.9 * cost(table, "fixed_small", even)


def test_interpolation_is_exact_for_what_the_table_holds():
    points = chebyshev_points(0.0, 11.0, 32)
    wanted = torch.cat([torch.linspace(0, 11, 97).double(), points[3:4]])
    matrix = interpolation(points, wanted)
    for f in (-0.3, 0.0, 0.5, 1.0, 1.5):
        assert torch.allclose(matrix @ torch.exp(-f * points), torch.exp(-f * wanted), atol=1e-12)
