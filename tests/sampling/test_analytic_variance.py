"""With the best variance, exact estimates lose nothing at any number of steps."""

import math

import pytest
import torch

from iddpm.diffusion import AnalyticVariance, cosine, linear
from iddpm.sampling import DDIM, DDPM
from iddpm.sampling.noise import limited
from tests.exact import eps_power, gaussian_denoiser

SCHEDULES = {
    "linear": (linear(1000), range(0, 1000, 111)),
    "cosine": (cosine(60), range(60)),
    "three steps": (linear(1000), [0, 300, 999]),
    "two steps": (cosine(1000), [10, 900]),
    "between": (cosine(1000), [0, 55.5, 200.25, 900]),
}
SAMPLERS = {
    "ddpm": DDPM(last_noise=math.inf),
    "ddim": DDIM(last_noise=math.inf),
    "half": DDIM(0.5, last_noise=math.inf),
    "eta 1": DDIM(1.0, last_noise=math.inf),
}


def moments(sampler, denoise, schedule, mean, variance, last=0):
    """Mean and variance of our states: a step is slope x + intercept + gain z, read off exactly."""
    for i in reversed(range(last, len(schedule))):

        def at(x, z, i=i):
            state = torch.full((1, 1, 1), x, dtype=torch.float64)
            noise = torch.full((1, 1, 1), z, dtype=torch.float64)
            return float(sampler.step(denoise, state, i, schedule, lambda: noise).x)

        intercept = at(0.0, 0.0)
        slope, gain = at(1.0, 0.0) - intercept, at(0.0, 1.0) - intercept
        mean, variance = slope * mean + intercept, slope**2 * variance + gain**2
    return mean, variance


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("m", "s"), [(0.3, 0.5), (-0.6, 0.2), (0.0, 0.95)])
def test_gaussian_data_come_out_exactly(sampler, name, m, s):
    whole, kept = SCHEDULES[name]
    schedule = whole.respace(kept)
    table = AnalyticVariance(whole, eps_power(s, whole))
    denoise = table.around(gaussian_denoiser(m, s))
    noisiest, least = float(schedule.alpha_bar[-1]), float(schedule.alpha_bar[0])
    start = (math.sqrt(noisiest) * m, noisiest * s**2 + 1 - noisiest)
    # Between whole steps V is interpolated, so it is exact at whole steps alone.
    tolerance = 1e-9 if name != "between" else 1e-3
    mean, variance = moments(SAMPLERS[sampler], denoise, schedule, *start, last=1)
    assert mean == pytest.approx(math.sqrt(least) * m, abs=1e-9)
    assert variance == pytest.approx(least * s**2 + 1 - least, abs=tolerance)
    # The last step returns the mean: what it leaves out is Var(x0 | x_1).
    mean, variance = moments(SAMPLERS[sampler], denoise, schedule, *start)
    left_out = s**2 * (1 - least) / (least * s**2 + 1 - least)
    assert mean == pytest.approx(m, abs=1e-9)
    assert variance == pytest.approx(s**2 - left_out, abs=tolerance)


def test_ddim_with_eta_1_is_ddpm():
    whole = cosine(40)
    denoise = AnalyticVariance(whole, eps_power(0.5, whole)).around(gaussian_denoiser(0.1, 0.5))
    a = moments(DDPM(), denoise, whole, 0.0, 1.0)
    assert a == pytest.approx(moments(DDIM(1.0), denoise, whole, 0.0, 1.0), rel=1e-9)


def test_the_noise_of_step_1_alone_is_limited():
    std = torch.tensor([0.001, 0.5])
    assert torch.equal(limited(std, 2, 1.0), std)
    small = limited(std, 1, 1.0)
    assert float(small[0]) == pytest.approx(0.001)
    noise = float(small[1]) * math.sqrt(2 / math.pi)  # the mean size of N(0, std**2)
    assert noise == pytest.approx(2 / 255)
    assert float(limited(std, 1, 2.0)[1]) == pytest.approx(2 * float(small[1]))
    whole = linear(1000).respace([0, 500, 999])
    table = AnalyticVariance(whole, eps_power(0.5, whole))
    denoise = table.around(gaussian_denoiser(0.1, 0.5))
    for sampler in (DDPM(), DDIM()):
        x = torch.zeros(1, 1, 1, dtype=torch.float64)
        near, far = (
            sampler.step(denoise, x, 1, whole, lambda z=z, x=x: torch.full_like(x, z)).x
            for z in (0, 1)
        )
        assert float(far - near) == pytest.approx(2 / 255 * math.sqrt(math.pi / 2))
