"""Where few steps should go: distance to the exact solution, in closed form.

Data is a mixture of Gaussians in one dimension, with its exact denoiser. The ODE carries quantiles
along, so a sample from the u-quantile of the noise should be the u-quantile of the data: the root
mean square of the differences is the Wasserstein distance, without Monte Carlo.

Before, a grid went from the noisiest step of the cosine schedule, where sigma is 2e4, to step 0,
both visited. Now it starts at sigma = 80 and its last step goes to the data from the level above
step 0 (see ``spacing.py``).
"""

import math

import pytest
import torch

from iddpm.diffusion import Prediction, cosine, linear
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling import IPNDM, DPMSolverPP, UniPC, sample
from iddpm.sampling.heun import Heun
from iddpm.sampling.spacing import _positions, karras_timesteps, log_snr_timesteps

DATA = {  # weights, means, deviations
    "two points": ([0.5, 0.5], [-1.0, 1.0], [0.01, 0.01]),
    "wide": ([0.5, 0.5], [-0.8, 0.4], [0.1, 0.3]),
    "mostly dark": ([0.8, 0.2], [-1.0, 0.6], [0.05, 0.3]),
}
SAMPLERS = {
    "ipndm": IPNDM(4),
    "2m": DPMSolverPP(2),
    "3m": DPMSolverPP(3),
    "unipc 3": UniPC(3),
}
U = (torch.arange(500, dtype=torch.float64) + 0.5) / 500


def exact(data):
    """The denoiser E[x0 | x_t] of a mixture."""
    w, m, s = (torch.tensor(values, dtype=torch.float64) for values in DATA[data])

    def denoise(x_t, level):
        alpha_bar, x = broadcast(level.alpha_bar, x_t)[..., None], x_t[..., None]
        of_x, mean = alpha_bar * s**2 + 1 - alpha_bar, alpha_bar.sqrt() * m
        share = (w.log() - of_x.log() / 2 - (x - mean) ** 2 / (2 * of_x)).softmax(-1)
        x0 = (share * (m + alpha_bar.sqrt() * s**2 / of_x * (x - mean))).sum(-1)
        alpha_bar = alpha_bar[..., 0]
        return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())

    return denoise


def quantiles(data):
    """The quantiles of a mixture, by bisection."""
    w, m, s = (torch.tensor(values, dtype=torch.float64) for values in DATA[data])
    low, high = torch.full_like(U, -9), torch.full_like(U, 9)
    for _ in range(60):
        middle = (low + high) / 2
        below = (w * torch.special.ndtr((middle[:, None] - m) / s)).sum(-1) < U
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return low


def distance(sampler, data, schedule):
    noise = torch.special.ndtri(U).reshape(-1, 1, 1)
    x = sample(sampler, exact(data), schedule, noise).flatten()
    return float((x.sort().values - quantiles(data)).square().mean().sqrt())


def before(whole, count, spacing):
    lam, even = whole.half_log_snr, torch.linspace(0, 1, count, dtype=torch.float64)
    if spacing == "log_snr":
        wanted = lam[0] + even * (lam[-1] - lam[0])
    else:
        wanted = lam[0] - 7 * torch.log(1 + even * (torch.exp((lam[0] - lam[-1]) / 7) - 1))
    return whole.respace(_positions(whole, wanted))


def now(whole, count, spacing):
    timesteps = log_snr_timesteps if spacing == "log_snr" else karras_timesteps
    return whole.respace(timesteps(whole, count))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_few_steps_come_nearer(data, spacing):
    whole = cosine(1000)
    for count in (5, 8, 10, 20):
        ratios = {
            name: distance(sampler, data, now(whole, count, spacing))
            / distance(sampler, data, before(whole, count, spacing))
            for name, sampler in SAMPLERS.items()
        }
        # Geometric means by data and spacing were 0.02 to 0.60 up to 10 evaluations.
        mean = math.exp(sum(map(math.log, ratios.values())) / len(ratios))
        assert mean < (0.65 if count <= 10 else 0.85), (count, ratios)
        assert count == 20 or max(ratios.values()) < 0.9, (count, ratios)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_heun_does_not_blow_up_from_the_cap(data, spacing):
    """From sigma = 2e4 its error in 19 evaluations could exceed the data's range."""
    whole = cosine(1000)
    error = distance(Heun(), data, now(whole, 10, spacing))
    assert error < 0.13
    assert error < distance(Heun(), data, before(whole, 10, spacing)) / 2


def test_the_linear_schedule_gains_as_well():
    """Its noisiest sigma is 157: there the last jump is most of the gain."""
    whole = linear(1000)
    gains = [
        math.log(
            distance(IPNDM(4), data, before(whole, 10, spacing))
            / distance(IPNDM(4), data, now(whole, 10, spacing))
        )
        for data in DATA
        for spacing in ("log_snr", "karras")
    ]
    assert min(gains) > -0.02
    assert sum(gains) / len(gains) > 0.5
