import math

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, losses, zero_terminal_snr
from iddpm.diffusion.prediction import eps_error_per, in_space, target
from iddpm.diffusion.weighting import (
    UNIFORM_SHARE,
    log_normal,
    log_normal_density,
    min_snr,
    sigmoid,
)

SPACES = ["eps", "x0", "v", "edm", "previous"]
SCHEDULE = cosine(40)
T = torch.tensor([0, 3, 20, 38])
SNR = (SCHEDULE.alpha_bar / (1 - SCHEDULE.alpha_bar))[T]


def level():
    return SCHEDULE.at(T)


def batch(predicts="eps"):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(4, 3, 5, dtype=torch.float64, generator=generator) * 2 - 1
    noise = torch.randn(4, 3, 5, dtype=torch.float64, generator=generator)
    denoiser = Denoiser(
        lambda x, shown: torch.sin(x), GaussianDiffusion(SCHEDULE, "fixed_small"), predicts
    )
    return denoiser, x0, T, noise


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_is_the_papers_weight_in_every_space(gamma):
    capped = SNR.clamp(max=gamma)
    by_space = {"x0": capped, "eps": capped / SNR, "v": capped / (SNR + 1)}
    for space, expected in by_space.items():
        ours = min_snr(level(), gamma) * eps_error_per(space, level())
        assert torch.allclose(ours, expected, rtol=1e-12), space


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
def test_sigmoid_is_one_half_where_the_log_snr_is_the_bias(bias):
    ours = sigmoid(level(), bias).tolist()
    assert ours == pytest.approx([1 / (1 + math.exp(math.log(r) - bias)) for r in SNR])
    alpha_bar = torch.tensor([1 / (1 + math.exp(-bias))], dtype=torch.float64)
    assert float(sigmoid(level()._replace(alpha_bar=alpha_bar), bias)) == pytest.approx(0.5)


@pytest.mark.parametrize(("mean", "spread", "sigma_data"), [(-1.2, 1.2, 0.5), (0.3, 0.7, 1.0)])
def test_log_normal_is_edms_weight_times_its_density(mean, spread, sigma_data):
    """Table 1 of Karras et al. 2022; the density integrated numerically over each step."""
    sigma = (1 / SNR).sqrt()
    edges = [0.0, *(1 / SCHEDULE.alpha_bar - 1).sqrt().tolist()]
    share = []
    for t in T.tolist():
        ln = torch.linspace(math.log(max(edges[t], 1e-9)), math.log(edges[t + 1]), 20_001).double()
        density = torch.exp(-0.5 * ((ln - mean) / spread) ** 2) / (spread * (2 * math.pi) ** 0.5)
        share.append(float(torch.trapezoid(density, ln)))
    density = 0.9 * 40 * torch.tensor(share, dtype=torch.float64) + 0.1
    of_x0 = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2 * density
    ours = log_normal(level(), mean, spread, num_steps=40, sigma_data=sigma_data)
    assert UNIFORM_SHARE == 0.1
    assert torch.allclose(ours * eps_error_per("x0", level()), of_x0, rtol=1e-4)
    assert torch.allclose(ours * eps_error_per("edm", level(), sigma_data), density, rtol=1e-4)
    every = SCHEDULE.at(torch.arange(40))
    mean_density = log_normal_density(every, 40, mean, spread).mean()
    assert float(mean_density) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("space", SPACES)
def test_errors_convert_between_spaces_as_measured(space):
    denoiser, x0, t, noise = batch()
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    prediction = denoiser(x_t, level())
    difference = in_space(space, prediction, x_t, level()) - target(space, x0, noise, x_t, level())
    in_eps = ((prediction.eps - noise) ** 2).mean((1, 2))
    ours = eps_error_per(space, level()) * (difference**2).mean((1, 2))
    assert torch.allclose(ours, in_eps, rtol=1e-9)


@pytest.mark.parametrize("weighting", [min_snr, sigmoid, log_normal])
@pytest.mark.parametrize("predicts", SPACES)
def test_a_weighting_means_the_same_objective_in_every_space(weighting, predicts):
    """Whatever is predicted and wherever it is measured; the mse reported stays unweighted."""
    denoiser, x0, t, noise = batch(predicts)
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    in_eps = ((denoiser(x_t, level()).eps - noise) ** 2).mean((1, 2))
    for space in SPACES:
        terms = losses.simple(denoiser, x0, t, noise, space=space, weighting=weighting)
        assert torch.allclose(terms.loss, weighting(level()) * in_eps, rtol=1e-9), space
        plain = losses.simple(denoiser, x0, t, noise, space=space)
        assert torch.equal(terms.mse, plain.mse)
        assert torch.equal(plain.loss, plain.mse)


def test_hybrid_weighs_its_squared_error_alone():
    diffusion = GaussianDiffusion(SCHEDULE, "learned_range")
    denoiser = Denoiser(lambda x, shown: torch.cat([torch.sin(x), torch.cos(x)], 1), diffusion, "v")
    _, x0, t, noise = batch()
    plain = losses.hybrid(denoiser, x0, t, noise, bits=None)
    weighted = losses.hybrid(denoiser, x0, t, noise, bits=None, weighting=min_snr)
    factor = SNR.clamp(max=5.0) / (SNR + 1)
    assert torch.equal(weighted.vb, plain.vb)
    assert torch.equal(weighted.mse, plain.mse)
    assert torch.allclose(weighted.loss, factor * plain.mse + plain.vb, rtol=1e-12)


def test_weights_are_finite_at_pure_noise():
    schedule = zero_terminal_snr(cosine(10))
    last = schedule.at(torch.tensor([9]))
    assert float(last.alpha_bar) == 0
    assert float(min_snr(last)) == 1
    assert float(sigmoid(last)) == 1
    for space, expected in {"eps": 1.0, "x0": 0.0, "v": 0.0, "edm": 0.0, "previous": 0.0}.items():
        assert float(eps_error_per(space, last)) == expected
