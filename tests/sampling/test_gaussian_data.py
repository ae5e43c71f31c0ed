"""Gaussian data x0 ~ N(m, s**2): the denoiser is known and every sampler is affine.

A step is x -> slope x + intercept + gain z. The three numbers are read off our samplers by
evaluating a step at two points and at two noises, hence exactly: nothing here is Monte Carlo.
"""

import math
from itertools import pairwise

import pytest
import torch

from iddpm.diffusion import Prediction, cosine, linear, log_snr
from iddpm.sampling import DDIM, DDPM, even_timesteps, invert, sample, space_timesteps


def exact_denoiser(m, s, variance="fixed_small"):
    """E[x0 | x_t]; for ``learned`` also the true log-variance of x_{t-1} given x_t."""

    def denoise(x_t, level):
        shape = (-1, *[1] * (x_t.dim() - 1))
        alpha_bar, before = level.alpha_bar.reshape(shape), level.alpha_bar_prev.reshape(shape)
        total = alpha_bar * s**2 + 1 - alpha_bar
        x0 = m + alpha_bar.sqrt() * s**2 / total * (x_t - alpha_bar.sqrt() * m)
        eps = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        of_before = before * s**2 + 1 - before
        true = of_before - alpha_bar / before * of_before**2 / total
        raw = true.log().expand_as(x_t) if variance == "learned" else None
        return Prediction(x0, eps, raw, variance_kind=variance)

    return denoise


def step_of(sampler, denoise, schedule, i):
    """Slope, intercept and noise gain of our step, read off its values."""

    def at(x, z):
        state = torch.full((1, 1, 1), x, dtype=torch.float64)
        noise = torch.full((1, 1, 1), z, dtype=torch.float64)
        return float(sampler.step(denoise, state, i, schedule, lambda: noise).x)

    intercept = at(0.0, 0.0)
    return at(1.0, 0.0) - intercept, intercept, at(0.0, 1.0) - intercept


def moments(sampler, denoise, schedule, mean=0.0, variance=1.0):
    """Mean and variance of our samples when x_T has these."""
    for i in reversed(range(len(schedule))):
        slope, intercept, gain = step_of(sampler, denoise, schedule, i)
        mean, variance = slope * mean + intercept, slope**2 * variance + gain**2
    return mean, variance


def levels_of(schedule, i):
    alpha_bar = [1.0, *schedule.alpha_bar.tolist()]
    return alpha_bar[i + 1], alpha_bar[i]


def regression(m, s, now):
    """x0 = constant + factor x_t on average."""
    factor = math.sqrt(now) * s**2 / (now * s**2 + 1 - now)
    return m - factor * math.sqrt(now) * m, factor


def ddim_by_hand(m, s, schedule, i, eta):
    """Song et al. 2021, equation 12 with sigma from equation 16."""
    now, before = levels_of(schedule, i)
    constant, factor = regression(m, s, now)
    sigma = eta * math.sqrt((1 - before) / (1 - now)) * math.sqrt(1 - now / before)
    towards = math.sqrt(max(1 - before - sigma**2, 0)) / math.sqrt(1 - now)
    # x' = sqrt(before) x0 + towards (x - sqrt(now) x0) + sigma z
    of_x0 = math.sqrt(before) - towards * math.sqrt(now)
    return of_x0 * factor + towards, of_x0 * constant, sigma if i else 0.0


def ddpm_by_hand(m, s, schedule, i, large):
    """The product of two Gaussians, at the mean of x0 given x_t."""
    now, before = levels_of(schedule, i)
    constant, factor = regression(m, s, now)
    if i == 0:
        return factor, constant, 0.0
    alpha = now / before
    of_prior, of_x_t = 1 / (1 - before), alpha / (1 - alpha)
    variance = 1 / (of_prior + of_x_t)
    of_x0 = variance * of_prior * math.sqrt(before)
    slope = of_x0 * factor + variance * of_x_t / math.sqrt(alpha)
    return slope, of_x0 * constant, math.sqrt(1 - alpha if large else variance)


SCHEDULES = {
    "linear": linear(1000).respace(range(0, 1000, 13)),
    "cosine": cosine(60),
    "two steps": linear(1000).respace([100, 999]),
    "log_snr": log_snr(60, log_snr_max=8.0),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("m", "s"), [(0.0, 1.0), (0.3, 0.5), (-0.7, 0.05)])
def test_each_step_is_the_one_written_by_hand(name, m, s):
    schedule = SCHEDULES[name]
    for i in range(len(schedule)):
        for eta in (0.0, 0.5, 1.0):
            ours = step_of(DDIM(eta), exact_denoiser(m, s), schedule, i)
            by_hand = ddim_by_hand(m, s, schedule, i, eta)
            assert ours == pytest.approx(by_hand, rel=1e-9, abs=1e-11), (i, eta)
        for variance in ("fixed_small", "fixed_large"):
            ours = step_of(DDPM(), exact_denoiser(m, s, variance), schedule, i)
            by_hand = ddpm_by_hand(m, s, schedule, i, variance == "fixed_large")
            assert ours == pytest.approx(by_hand, rel=1e-9, abs=1e-11), (i, variance)


def test_a_whole_trajectory_is_the_product_of_its_steps():
    """The loop visits every step once, from the noisiest down, with each step's own noise."""
    schedule, denoise = SCHEDULES["linear"], exact_denoiser(0.3, 0.5)
    noises = torch.linspace(-2, 2, len(schedule), dtype=torch.float64)
    x_T = torch.full((1, 1, 1), 0.8, dtype=torch.float64)
    ours = sample(DDIM(1.0), denoise, schedule, x_T, noise=lambda k: noises[k].reshape(1, 1, 1))
    x = 0.8
    for number, i in enumerate(reversed(range(len(schedule)))):
        slope, intercept, gain = ddim_by_hand(0.3, 0.5, schedule, i, 1.0)
        x = slope * x + intercept + gain * float(noises[number])
    assert float(ours) == pytest.approx(x, rel=1e-10)


def test_ddim_with_eta_1_is_ddpm_with_the_small_variance():
    schedule = SCHEDULES["cosine"]
    for i in range(len(schedule)):
        ddim = step_of(DDIM(1.0), exact_denoiser(0.3, 0.5), schedule, i)
        ddpm = step_of(DDPM(), exact_denoiser(0.3, 0.5), schedule, i)
        assert ddim == pytest.approx(ddpm, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(
    ("make", "s", "num_steps", "share"),
    [
        (linear, 0.5, 50, 0.891),
        (linear, 0.5, 1000, 0.994),
        (linear, 1.0, 50, 0.928),
        (linear, 1.0, 1000, 0.996),
        (cosine, 0.5, 50, 0.939),
        (cosine, 0.5, 1000, 0.997),
    ],
)
def test_deterministic_ddim_keeps_this_share_of_the_variance(make, s, num_steps, share):
    """Too few steps make the samples too alike, with a perfect denoiser."""
    schedule = make(1000).respace(even_timesteps(1000, num_steps))
    _, variance = moments(DDIM(), exact_denoiser(0.0, s), schedule)
    assert variance / s**2 == pytest.approx(share, abs=6e-4)


def log_slope(errors):
    """Least-squares slope of log error on log N, and the slopes from one N to the next."""
    logs = [(math.log(n), math.log(error)) for n, error in errors.items()]
    x = sum(a for a, _ in logs) / len(logs)
    y = sum(b for _, b in logs) / len(logs)
    slope = sum((a - x) * (b - y) for a, b in logs) / sum((a - x) ** 2 for a, _ in logs)
    return slope, [(d - b) / (c - a) for (a, b), (c, d) in pairwise(logs)]


COUNTS = [50, 100, 200, 500, 1000]


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize(
    ("sampler", "tolerance"), [(DDIM(), 0.01), (DDIM(0.5), 0.05), (DDIM(1.0), 0.1), (DDPM(), 0.1)]
)
def test_the_variance_converges_as_one_over_the_number_of_steps(make, sampler, tolerance):
    """Measured in the logarithm, because each step takes a factor from the variance.

    With fresh noise the second order still shows at 50 steps (a fifth is missing there), so the
    overall slope gets room; the last pair, 500 and 1,000 steps, may not use it.
    """
    s, whole = 0.5, make(4000)
    errors = {}
    for n in COUNTS:
        schedule = whole.respace(even_timesteps(4000, n))
        _, variance = moments(sampler, exact_denoiser(0.0, s), schedule)
        assert variance < s**2
        errors[n] = -math.log(variance / s**2)
    slope, between = log_slope(errors)
    assert slope == pytest.approx(-1, abs=tolerance), errors
    assert between[-1] == pytest.approx(-1, abs=0.05), errors


@pytest.mark.parametrize("make", [linear, cosine])
def test_the_mean_is_right_when_sampling_starts_from_the_true_noise(make):
    m, s = 0.3, 0.5
    schedule = make(1000).respace(even_timesteps(1000, 50))
    last = float(schedule.alpha_bar[-1])
    for sampler in (DDIM(), DDIM(0.5), DDPM()):
        start = math.sqrt(last) * m
        mean, _ = moments(sampler, exact_denoiser(m, s), schedule, mean=start)
        assert mean == pytest.approx(m, abs=1e-9)
        mean, _ = moments(sampler, exact_denoiser(m, s), schedule)  # from N(0, 1)
        assert mean == pytest.approx(m, abs=2e-3)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddpm_with_the_true_variance_has_the_true_marginals(name):
    """With the variance learned perfectly nothing is lost at any number of steps."""
    m, s, schedule = 0.3, 0.5, SCHEDULES[name]
    denoise = exact_denoiser(m, s, "learned")
    last = float(schedule.alpha_bar[-1])
    mean, variance = math.sqrt(last) * m, last * s**2 + 1 - last
    for i in reversed(range(1, len(schedule))):
        slope, intercept, gain = step_of(DDPM(), denoise, schedule, i)
        mean, variance = slope * mean + intercept, slope**2 * variance + gain**2
        _, before = levels_of(schedule, i)
        assert mean == pytest.approx(math.sqrt(before) * m, rel=1e-9)
        assert variance == pytest.approx(before * s**2 + 1 - before, rel=1e-9)
    # The last step returns the mean: what it leaves out is Var(x0 | x_1).
    slope, intercept, _ = step_of(DDPM(), denoise, schedule, 0)
    now, _ = levels_of(schedule, 0)
    left_out = s**2 * (1 - now) / (now * s**2 + 1 - now)
    assert slope * mean + intercept == pytest.approx(m, rel=1e-9)
    assert slope**2 * variance == pytest.approx(s**2 - left_out, rel=1e-9)


@pytest.mark.parametrize("make", [linear, cosine])
def test_the_round_trip_of_inversion_converges_as_one_over_the_number_of_steps(make):
    m, s, whole = 0.1, 0.5, make(4000)
    denoise = exact_denoiser(m, s)
    x0 = torch.tensor([-0.9, -0.2, 0.6], dtype=torch.float64).reshape(3, 1, 1)
    errors = {}
    for n in COUNTS:
        schedule = whole.respace(even_timesteps(4000, n))
        noise = invert(denoise, schedule, x0)
        errors[n] = float((sample(DDIM(), denoise, schedule, noise) - x0).abs().max())
    slope, between = log_slope(errors)
    assert errors[50] < 0.2
    assert slope == pytest.approx(-1, abs=0.02), errors
    assert between == pytest.approx([-1] * 4, abs=0.04), errors


def test_inversion_whitens_the_data():
    """Data of N(m, s**2) becomes noise of about N(0, 1)."""
    m, s = 0.3, 0.5
    schedule = linear(1000)
    x0 = torch.tensor([m - s, m, m + s], dtype=torch.float64).reshape(3, 1, 1)
    low, middle, high = invert(exact_denoiser(m, s), schedule, x0).flatten().tolist()
    assert middle == pytest.approx(0, abs=0.01)
    assert (high - low) / 2 == pytest.approx(1, abs=0.01)


def test_published_strides_start_below_the_noisiest_step():
    """ddim50 of 1,000 leaves T - 1 out, and costs a little: the reason for our default."""
    denoise = exact_denoiser(0.3, 0.5)
    errors = {}
    for name, kept in {
        "even": even_timesteps(1000, 10),
        "ddim": space_timesteps(1000, "ddim10"),
    }.items():
        mean, _ = moments(DDIM(), denoise, linear(1000).respace(kept))
        errors[name] = abs(mean - 0.3)
    assert errors["ddim"] > 2 * errors["even"]
