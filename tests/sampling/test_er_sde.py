"""ER-SDE: its factors against the formulas of Cui et al. 2023, and its moments."""

import math

import pytest
import torch

from iddpm.diffusion import cosine
from iddpm.sampling import DDIM, ERSDE, karras_timesteps, sample
from iddpm.sampling.er_sde import noise_scale
from tests.sampling.test_few_steps import exact
from tests.sampling.test_gaussian_data import exact_denoiser, step_of
from tests.sampling.test_orders import MEAN, SPREAD, grid


def by_hand(phi, start, end, parts=200_000):
    """The factors of propositions 2 and 4, their integrals by the trapezoidal rule."""
    sigma = torch.linspace(end, start, parts + 1, dtype=torch.float64)
    values = 1 / phi(sigma)
    other = (sigma - start) * values
    width = (start - end) / parts
    integral, moment = (float((y.sum() - (y[0] + y[-1]) / 2) * width) for y in (values, other))
    of_end, of_start = (float(phi(torch.tensor(s, dtype=torch.float64))) for s in (end, start))
    ratio = of_end / of_start
    return [
        ratio,
        1 - ratio,
        end - start + of_end * integral,
        (end - start) ** 2 / 2 + of_end * moment,
        math.sqrt(end**2 - start**2 * ratio**2),
    ]


@pytest.mark.parametrize(("start", "end"), [(80.0, 20.0), (3.0, 1.0), (0.5, 0.45), (0.05, 0.01)])
@pytest.mark.parametrize("name", ["er-sde 5", "sde"])
def test_the_factors_are_those_of_the_paper(name, start, end):
    phi = {"er-sde 5": lambda s: s * (torch.exp(s**0.3) + 10), "sde": lambda s: s**2}[name]
    used = noise_scale if name == "er-sde 5" else phi
    start_, end_ = (torch.tensor(s, dtype=torch.float64) for s in (start, end))
    ours = ERSDE(3, used).weights(start_, end_)
    assert list(ours) == pytest.approx(by_hand(phi, start, end), rel=1e-6, abs=1e-9)


def test_the_usual_sde_has_closed_forms():
    start, end = 3.0, 0.7
    ours = ERSDE(3, lambda s: s**2).weights(*torch.tensor([start, end], dtype=torch.float64))
    curvature = (end - start) ** 2 / 2 + end**2 * (math.log(start / end) + 1 - start / end)
    slope = end - start + end**2 * (1 / end - 1 / start)
    assert [ours.slope, ours.curvature] == pytest.approx([slope, curvature], rel=1e-12)


def test_order_1_with_the_usual_noise_is_ddim_with_eta_1_and_without_noise_ddim():
    schedule, denoise = grid(7, "karras"), exact_denoiser(MEAN, SPREAD)
    for phi, eta in [(lambda s: s**2, 1.0), (lambda s: s, 0.0)]:
        ours = step_of(First(ERSDE(1, phi)), denoise, schedule, 4)
        assert ours == pytest.approx(step_of(DDIM(eta), denoise, schedule, 4), rel=1e-9, abs=1e-12)


class First:
    def __init__(self, sampler):
        self.sampler = sampler

    def step(self, denoise, x, i, schedule, draw):
        return self.sampler.step(denoise, x, i, schedule, draw, None)


def variance_error(sampler, count):
    """Relative error of the variance on Gaussian data: exact, the state is affine in all noise.

    Row 0 has no noise, row k that of one step alone and the last row another start.
    """
    schedule, denoise = grid(count, "karras"), exact_denoiser(MEAN, SPREAD)
    alpha_bar = schedule.alpha_bar.tolist()
    start = alpha_bar[-1]
    x = torch.full((count + 2, 1, 1), math.sqrt(start) * MEAN, dtype=torch.float64)
    x[-1] += math.sqrt(start * SPREAD**2 + 1 - start)
    memory = None
    for taken, i in enumerate(range(count, 0, -1), 1):
        impulse = torch.zeros_like(x)
        impulse[taken] = 1.0
        x, _, memory = sampler.step(denoise, x, i, schedule, lambda z=impulse: z, memory)
    found = float((x[1:] - x[0]).square().sum())
    return abs(found / (alpha_bar[0] * SPREAD**2 + 1 - alpha_bar[0]) - 1)


@pytest.mark.parametrize(("order", "slope"), [(1, 1), (2, 2), (3, 2)])
def test_the_variance_converges_on_gaussian_data(order, slope):
    coarse, fine = (variance_error(ERSDE(order), count) for count in (50, 100))
    assert fine < 0.05
    assert math.log2(coarse / fine) > slope - 0.25, (coarse, fine)


def test_the_moments_of_a_mixture():
    """Two Gaussians, 20,000 samples of 100 steps: four standard errors and the solver's own."""
    n, schedule = 20_000, cosine(1000)
    schedule = schedule.respace(karras_timesteps(schedule, 100))
    draws = torch.randn(101, n, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    x = sample(ERSDE(3), exact("wide"), schedule, draws[100], noise=lambda k: draws[k]).flatten()
    w, m, s = torch.tensor([[0.5, 0.5], [-0.8, 0.4], [0.1, 0.3]], dtype=torch.float64)
    true = [
        float((w * m).sum()),
        float((w * (m**2 + s**2)).sum()),
        float((w * (m**3 + 3 * m * s**2)).sum()),
        float((w * (m**4 + 6 * m**2 * s**2 + 3 * s**4)).sum()),
    ]
    for power, wanted in enumerate(true, 1):
        values = x**power
        error = float(values.std()) / math.sqrt(n)
        assert float(values.mean()) == pytest.approx(wanted, abs=4 * error + 0.01), power


def test_an_order_that_does_not_exist():
    with pytest.raises(ValueError, match="order=4 must be 1, 2 or 3"):
        ERSDE(4)
