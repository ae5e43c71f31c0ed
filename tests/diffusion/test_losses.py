import math
from itertools import product

import pytest
import torch

from iddpm.diffusion import (
    Denoiser,
    GaussianDiffusion,
    bits_per_dim,
    cosine,
    linear,
    losses,
    zero_terminal_snr,
)
from iddpm.diffusion.variational_bound import vlb_term
from tests.exact import entropy_and_gap, gaussian_denoiser, quadrature

PREDICTS = ["eps", "x0", "v", "edm", "previous"]
SPREADS = ["learned", "learned_range", "fixed_small", "fixed_large"]


class Heads(torch.nn.Module):
    """A tiny network whose mean and variance have weights of their own."""

    def __init__(self, learned):
        super().__init__()
        self.mean = torch.nn.Parameter(torch.tensor(0.4, dtype=torch.float64))
        self.variance = torch.nn.Parameter(torch.tensor(-0.3, dtype=torch.float64))
        self.learned = learned

    def forward(self, x, shown):
        mean = self.mean * torch.sin(x + 1)
        return torch.cat([mean, self.variance * torch.cos(x)], 1) if self.learned else mean


def case(variance, predicts="eps", schedule=None):
    """A denoiser and a batch that holds step 0 as well as others."""
    schedule = schedule or cosine(40)
    diffusion = GaussianDiffusion(schedule, variance)
    denoiser = Denoiser(Heads(diffusion.learns_variance), diffusion, predicts)
    generator = torch.Generator().manual_seed(1)
    t = torch.tensor([0, 1, len(schedule) // 2, len(schedule) - 1])
    level = torch.randint(0, 256, (4, 3, 5), generator=generator)
    noise = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator)
    return denoiser, (level * 2 / 255 - 1).double(), t, noise


def gradients(loss, network):
    return [
        None if g is None else float(g)
        for g in torch.autograd.grad(
            loss, [network.mean, network.variance], allow_unused=True, retain_graph=True
        )
    ]


@pytest.mark.parametrize("variance", ["learned", "learned_range"])
@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_bound_of_hybrid_moves_the_variance_alone(variance, predicts):
    denoiser, x0, t, noise = case(variance, predicts)
    terms = losses.hybrid(denoiser, x0, t, noise)
    for item in range(4):  # item 0 is the decoder, the others divergences
        of_mean, of_variance = gradients(terms.vb[item], denoiser.network)
        assert of_mean in (None, 0.0)
        assert of_variance is not None
        assert abs(of_variance) > 0
        of_mean, of_variance = gradients(terms.mse[item], denoiser.network)
        assert abs(of_mean) > 0
        assert of_variance in (None, 0.0)
    # The plain bound moves both.
    of_mean, of_variance = gradients(
        losses.vlb(denoiser, x0, t, noise).loss.sum(), denoiser.network
    )
    assert abs(of_mean) > 0
    assert abs(of_variance) > 0


@pytest.mark.parametrize("variance", ["learned", "learned_range"])
@pytest.mark.parametrize("predicts", PREDICTS)
def test_hybrid_is_simple_plus_a_weighted_vlb(variance, predicts):
    denoiser, x0, t, noise = case(variance, predicts)
    hybrid = losses.hybrid(denoiser, x0, t, noise, vb_weight=0.02)
    simple = losses.simple(denoiser, x0, t, noise)
    vlb = losses.vlb(denoiser, x0, t, noise)
    assert hybrid.loss.shape == (4,)
    assert torch.allclose(hybrid.mse, simple.loss)
    assert torch.allclose(hybrid.vb, 0.02 * vlb.loss)
    assert torch.allclose(hybrid.loss, simple.loss + 0.02 * vlb.loss)
    by_default = losses.hybrid(denoiser, x0, t, noise)
    assert torch.allclose(by_default.vb, 0.001 * vlb.loss)
    assert simple.vb is None
    assert vlb.mse is None


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_hybrid_with_a_fixed_variance_is_refused(variance):
    denoiser, x0, t, noise = case(variance)
    with pytest.raises(ValueError, match=f"{variance}' is fixed.*simple"):
        losses.hybrid(denoiser, x0, t, noise)


@pytest.mark.parametrize("variance", SPREADS)
def test_simple_is_the_formula_of_ho_et_al(variance):
    denoiser, x0, t, noise = case(variance)
    ours = losses.simple(denoiser, x0, t, noise).loss
    for k, step in enumerate(t.tolist()):
        alpha_bar = denoiser.diffusion.schedule.alpha_bar[step]
        x_t = alpha_bar.sqrt() * x0[k] + (1 - alpha_bar).sqrt() * noise[k]
        error = noise[k] - 0.4 * torch.sin(x_t + 1)
        assert float(ours[k].detach()) == pytest.approx(float((error**2).mean()))


def test_vlb_is_the_bounds_term_times_the_number_of_steps():
    denoiser, x0, t, noise = case("learned_range")
    diffusion = denoiser.diffusion
    x_t = diffusion.q_sample(x0, t, noise)
    prediction = denoiser(x_t, diffusion.schedule.at(t))
    term = vlb_term(diffusion, prediction, x0, x_t, t)
    assert torch.allclose(losses.vlb(denoiser, x0, t, noise).loss, 40 * term)
    # One divergence by hand: item 2.
    q, p = diffusion.q_posterior(x0, x_t, t), diffusion.p_posterior(prediction, x_t, t)
    v_q, v_p = q.log_variance[2].exp(), p.log_variance[2].exp()
    nats = 0.5 * ((v_q + (q.mean[2] - p.mean[2]) ** 2) / v_p - 1 + torch.log(v_p / v_q))
    assert float(term[2].detach()) == pytest.approx(float(nats.mean().detach()) / math.log(2))


@pytest.mark.parametrize("schedule", [cosine(40), linear(1000).respace(range(0, 1000, 50))])
@pytest.mark.parametrize("variance", SPREADS)
def test_vlb_averaged_over_all_steps_is_bits_per_dim_without_its_prior(schedule, variance):
    denoiser, x0, _, noise = case(variance, schedule=schedule)
    n = len(schedule)
    every = torch.stack(
        [losses.vlb(denoiser, x0, torch.full((4,), t), noise).loss.detach() for t in range(n)]
    )
    measured = bits_per_dim(
        denoiser.diffusion, denoiser, x0, noise=lambda number: noise, clip=False
    )
    assert torch.allclose(every.mean(0), measured.total - measured.prior)
    assert torch.allclose(every.flip(0).T / n, measured.vb)


@pytest.mark.parametrize("predicts", ["x0", "v", "edm"])
def test_every_loss_trains_the_mean_at_pure_noise(predicts):
    schedule = zero_terminal_snr(cosine(40))
    for variance, loss in product(SPREADS, (losses.simple, losses.hybrid, losses.vlb)):
        if loss is losses.hybrid and not variance.startswith("learned"):
            continue
        denoiser, x0, t, noise = case(variance, predicts, schedule)
        terms = loss(denoiser, x0, t, noise)
        assert bool(terms.loss.isfinite().all())
        of_mean, _ = gradients(terms.loss[-1], denoiser.network)  # the last item is step T - 1
        assert math.isfinite(of_mean)
        assert abs(of_mean) > 0


def test_the_bound_of_a_process_that_ends_in_pure_noise_has_no_gap():
    """With the true means and variances Gaussian data costs its entropy, and no prior is left."""
    m, s = 0.2, 0.5
    schedule = zero_terminal_snr(cosine(100))
    x0, noise, weights = quadrature(m, s)
    measured = bits_per_dim(
        GaussianDiffusion(schedule, "learned"),
        gaussian_denoiser(m, s, variance="learned"),
        x0,
        noise=lambda number: noise,
        clip=False,
        bits=None,
    )
    assert torch.equal(measured.prior, torch.zeros(9, dtype=torch.float64))
    entropy, gap = entropy_and_gap(m, s, schedule)
    assert gap == 0
    assert float(measured.total @ weights) == pytest.approx(entropy, rel=1e-6)


def test_the_space_of_the_loss_is_a_choice_of_its_own():
    denoiser, x0, t, noise = case("fixed_small")
    alpha_bar = denoiser.diffusion.schedule.alpha_bar[t]
    in_eps = losses.simple(denoiser, x0, t, noise).loss
    in_x0 = losses.simple(denoiser, x0, t, noise, space="x0").loss
    in_v = losses.simple(denoiser, x0, t, noise, space="v").loss
    assert torch.allclose(in_x0, in_eps * (1 - alpha_bar) / alpha_bar)
    assert torch.allclose(in_v, in_eps / alpha_bar)
    # The mean of x_{t-1} weighs x0's error by its coefficient; at step 0 it is x0 itself.
    before = denoiser.diffusion.schedule.alpha_bar_prev[t]
    of_x0 = before.sqrt() * (1 - alpha_bar / before) / (1 - alpha_bar)
    in_previous = losses.simple(denoiser, x0, t, noise, space="previous").loss
    assert torch.allclose(in_previous, in_x0 * of_x0**2)

    predicts_x0, *batch = case("fixed_small", "x0")
    own = losses.simple(predicts_x0, *batch).loss
    in_eps = losses.simple(predicts_x0, *batch, space="eps").loss
    assert torch.allclose(in_eps, own * alpha_bar / (1 - alpha_bar))
    hybrid, *batch = case("learned_range", "x0")
    assert torch.allclose(losses.hybrid(hybrid, *batch, space="eps").mse, in_eps)


def test_a_perfect_network_has_no_loss_in_any_space():
    for predicts in PREDICTS:
        denoiser, x0, t, noise = case("fixed_small", "eps")
        perfect = Denoiser(lambda x, s, noise=noise: noise, denoiser.diffusion, "eps")
        assert float(losses.simple(perfect, x0, t, noise, space=predicts).loss.max()) < 1e-20


def test_bits_none_is_the_continuous_bound():
    denoiser, x0, t, noise = case("learned_range")
    discrete = losses.vlb(denoiser, x0, t, noise).loss
    density = losses.vlb(denoiser, x0, t, noise, bits=None).loss
    assert torch.equal(discrete[1:], density[1:])
    assert abs(float((discrete - density)[0].detach())) > 1
    hybrid = losses.hybrid(denoiser, x0, t, noise, bits=None, vb_weight=1.0)
    assert torch.allclose(hybrid.vb, density)


def test_conditioning_reaches_the_network():
    denoiser, x0, t, noise = case("learned_range")
    seen = []

    def network(x, shown, *, y):
        seen.append(y)
        return torch.cat([x, x], 1)

    conditioned = Denoiser(network, denoiser.diffusion)
    for loss in (losses.simple, losses.vlb, losses.hybrid):
        loss(conditioned, x0, t, noise, y="label")
    assert seen == ["label"] * 3
