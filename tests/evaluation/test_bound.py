from itertools import pairwise

import pytest
import torch

from iddpm.diffusion import (
    AnalyticVariance,
    Denoiser,
    GaussianDiffusion,
    bits_per_dim,
    cosine,
    linear,
)
from iddpm.diffusion.prediction import posterior_mean
from iddpm.evaluation.bound_terms import ItemNoise, process, terms_at, whole_bounds
from iddpm.evaluation.sampled_bound import inclusion, systematic
from tests.exact import entropy_and_gap, eps_power, gaussian_denoiser, quadrature

SHAPE = (2, 6, 5)


class Network(torch.nn.Module):
    """Any smooth function of x and time, with variance channels."""

    def forward(self, x, shown, y=None):
        time = shown.reshape(-1, 1, 1, 1) / 1000
        mean = torch.tanh(x * (0.3 + 0.7 * time)) + (
            0 if y is None else 0.1 * y.reshape(-1, 1, 1, 1)
        )
        return torch.cat([mean, torch.sin(3 * x + time)], dim=1).to(x.dtype)


def data(count=5):
    generator = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (count, *SHAPE), generator=generator)
    return levels.double() / 127.5 - 1


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "previous"])
@pytest.mark.parametrize("clip", [True, False])
def test_all_steps_together_are_the_bound_of_the_theory(predicts, clip):
    whole = cosine(20)
    diffusion = GaussianDiffusion(whole, "learned_range")
    denoiser = Denoiser(Network(), diffusion, predicts)
    x0, noise = data(), ItemNoise(0, range(5), SHAPE)
    y = torch.arange(5)
    (ours,) = whole_bounds(
        denoiser, [process(whole, range(20), "learned_range")], x0, noise, bits=8, clip=clip, y=y
    )

    def by_number(number):
        return noise(torch.full((5,), 19 - number))

    theirs = bits_per_dim(diffusion, denoiser, x0, noise=by_number, clip=clip, bits=8, y=y)
    assert torch.equal(ours.vb, theirs.vb)
    assert torch.equal(ours.x0_mse, theirs.x0_mse)
    assert torch.equal(ours.eps_mse, theirs.eps_mse)
    assert torch.allclose(ours.total, theirs.total, rtol=1e-12)
    assert torch.allclose(ours.prior + ours.steps + ours.decoder, theirs.total, rtol=1e-12)
    assert torch.equal(ours.decoder, theirs.vb[:, -1])


@pytest.mark.parametrize("predicts", ["eps", "v", "previous"])
def test_several_strides_share_evaluations_and_give_what_each_gives_alone(predicts):
    whole = linear(40)
    denoiser = Denoiser(Network(), GaussianDiffusion(whole, "learned_range"), predicts)
    x0, noise = data(), ItemNoise(0, range(5), SHAPE)
    calls = []
    paths = [range(40), [0, 7, 20, 39], [0, 8, 39]]
    processes = [process(whole, path, "learned_range") for path in paths]
    together = whole_bounds(denoiser, processes, x0, noise, bits=8, on_step=lambda: calls.append(0))
    assert len(calls) == 40
    for each, terms in zip(processes[1:], together[1:], strict=True):
        (alone,) = whole_bounds(denoiser, [each], x0, noise, bits=8)
        assert torch.equal(alone.vb, terms.vb)
        if predicts == "previous":
            continue  # a respaced denoiser would take the output for the mean of a longer step
        diffusion = GaussianDiffusion(whole.respace(each.kept), "learned_range")
        kept = torch.tensor(each.kept)
        theirs = bits_per_dim(
            diffusion,
            Denoiser(denoiser.network, diffusion, predicts),
            x0,
            noise=lambda number, kept=kept: noise(kept.flip(0)[number].expand(5)),
        )
        assert torch.allclose(terms.vb, theirs.vb, rtol=1e-9)


def test_a_network_that_predicts_the_previous_mean_keeps_its_meaning_on_longer_steps():
    """The exact mean of x_{t-1} says what x0 is, and that is what longer steps use."""
    m, s, whole = 0.2, 0.5, cosine(50)
    exact = gaussian_denoiser(m, s)

    def network(x, shown):
        level = whole.at((shown * 50 / 1000).round().long())
        x0 = exact(x, level).x0
        return posterior_mean(x0, x, level)

    x0, eps, _ = quadrature(m, s)
    kept = [0, 11, 30, 49]
    denoiser = Denoiser(network, GaussianDiffusion(whole, "fixed_small"), "previous")
    each = process(whole, kept, "fixed_small")
    bounds = [
        whole_bounds(denoise, [each], x0, lambda t: eps, bits=None, clip=False)[0]
        for denoise in (exact, denoiser)
    ]
    assert torch.allclose(bounds[0].vb, bounds[1].vb, rtol=1e-5)


@pytest.mark.parametrize("kept", [range(30), [0, 4, 11, 29], [0, 29], [29]])
@pytest.mark.parametrize(("m", "s"), [(0.3, 0.4), (-0.5, 0.1), (0.0, 0.9)])
def test_with_exact_estimates_the_analytic_variance_makes_the_bound_the_entropy(kept, m, s):
    """Nothing is lost at any number of steps but KL(q(x_T) || N(0, 1))."""
    whole = cosine(30)
    analytic = AnalyticVariance(whole, eps_power(s, whole))
    x0, eps, weights = quadrature(m, s)
    (bound,) = whole_bounds(
        gaussian_denoiser(m, s), [process(whole, kept, "analytic", analytic)], x0,
        lambda t: eps, bits=None, clip=False,
    )  # fmt: skip
    assert float(weights @ bound.total) == pytest.approx(
        sum(entropy_and_gap(m, s, whole)), abs=1e-9
    )


def test_noise_is_a_function_of_seed_item_and_step():
    t = torch.tensor([3, 3, 7])
    noise = ItemNoise(1, [10, 11, 12], SHAPE)(t)
    assert noise.shape == (3, *SHAPE)
    assert torch.equal(ItemNoise(1, [12, 10], SHAPE)(t[[2, 0]]), noise[[2, 0]])
    for other in (ItemNoise(2, [10], SHAPE)(t[:1]), ItemNoise(1, [10], SHAPE)(t[2:])):
        assert not torch.allclose(other, noise[:1], atol=0.1)


def test_looking_at_every_step_is_the_whole_bound():
    whole = cosine(12)
    denoiser = Denoiser(Network(), GaussianDiffusion(whole, "learned_range"), "v")
    each = process(whole, range(12), "learned_range")
    x0, noise = data(), ItemNoise(0, range(5), SHAPE)
    (exact,) = whole_bounds(denoiser, [each], x0, noise, bits=8)
    offsets = torch.linspace(0, 0.9, 5).double()
    every = torch.ones(12, dtype=torch.float64)
    drawn = systematic(every, offsets)
    sampled = terms_at(denoiser, each, x0, noise, drawn, torch.ones_like(exact.vb), bits=8)
    for name in ("prior", "steps", "decoder", "total"):
        assert torch.allclose(getattr(sampled, name), getattr(exact, name), rtol=1e-12)
    # M = 12 of 12 steps in the order of the process; the whole bound goes the other way
    assert torch.allclose(sampled.vb.flip(1), exact.vb, rtol=1e-12)


def test_the_mean_over_all_offsets_of_a_few_steps_is_the_whole_bound():
    """Exactly: between two changes of the drawn steps the estimate is a constant."""
    whole = cosine(12)
    denoiser = Denoiser(Network(), GaussianDiffusion(whole, "learned_range"), "v")
    each = process(whole, [0, 1, 2, 4, 5, 7, 8, 11], "learned_range")
    x0, noise = data(), ItemNoise(0, range(5), SHAPE)
    (exact,) = whole_bounds(denoiser, [each], x0, noise, bits=8)
    probability = inclusion(torch.tensor([1, 9, 4, 3, 2, 1, 1, 0.5]).double(), 3)
    changes = torch.cat([(probability.cumsum(0)[:-1] % 1), torch.zeros(1), torch.ones(1)]).unique()
    mean = torch.zeros(5, dtype=torch.float64)
    for low, high in pairwise(changes):
        offsets = ((low + high) / 2).expand(5)
        drawn = systematic(probability, offsets)
        part = terms_at(denoiser, each, x0, noise, drawn, 1 / probability[drawn], bits=8)
        assert torch.equal(part.decoder, exact.decoder)
        mean += (high - low) * part.total
    assert torch.allclose(mean, exact.total, rtol=1e-10)
