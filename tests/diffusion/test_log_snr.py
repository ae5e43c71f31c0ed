"""The schedule that is linear in log-SNR, on data whose bound or entropy is known."""

import math
from itertools import pairwise

import pytest
import torch

from iddpm.builders import build_diffusion, resolve
from iddpm.config import read_config
from iddpm.diffusion import (
    GaussianDiffusion,
    Prediction,
    bits_per_dim,
    from_x0,
    log_snr,
    log_snr_of_levels,
)
from iddpm.diffusion.variational_bound import vlb_term
from tests.conftest import TINY
from tests.exact import gaussian_denoiser, quadrature

ENDS = ["model.channels=1", "model.size=[8,8]", *TINY, "diffusion.schedule=log_snr"]


@pytest.mark.parametrize("steps", [2, 7, 1000])
def test_log_snr_falls_linearly_between_its_ends(steps):
    schedule = log_snr(steps, log_snr_max=9.0, log_snr_min=-4.0)
    expected = torch.linspace(9.0, -4.0, steps, dtype=torch.float64)
    assert torch.allclose(2 * schedule.half_log_snr, expected, rtol=1e-9, atol=1e-9)


def test_the_time_shown_is_the_log_snr_whatever_the_number_of_steps():
    few, many = log_snr(11), log_snr(1001)
    assert torch.allclose(few.shown, many.shown[::100])
    assert few.shown[[0, 5, 10]].tolist() == [0, 500, 1000]
    assert log_snr(11, rescale_timesteps=False).shown.tolist() == list(range(11))
    assert float(2 * log_snr(1).half_log_snr) == pytest.approx(-5)
    assert log_snr(1).shown.tolist() == [1000]
    between = many.respace([0, 250.5, 1000])
    assert float(between.shown[1]) == 250.5
    assert 2 * float(between.half_log_snr[1]) == pytest.approx(13.3 - 18.3 * 0.2505)


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_the_least_noise_is_the_same_share_of_a_level_of_any_depth(bits):
    level = log_snr(10, log_snr_max=log_snr_of_levels(bits)).half_log_snr[0]
    assert float(torch.exp(-level)) * (2**bits - 1) / 2 == pytest.approx(0.165, abs=5e-4)


def test_the_ends_follow_from_the_depth_of_the_data_unless_stated():
    for bits, expected in ((8, 13.3), (4, log_snr_of_levels(4)), ("null", 13.3)):
        config = resolve(read_config(None, [*ENDS, f"bits={bits}"]))
        assert config.diffusion.log_snr_max == pytest.approx(expected)
        assert config.diffusion.log_snr_min == -5
        first, last = build_diffusion(config).schedule.half_log_snr[[0, -1]].tolist()
        assert (2 * first, 2 * last) == pytest.approx((expected, -5))
    stated = resolve(read_config(None, [*ENDS, "diffusion.log_snr_max=4"]))
    assert stated.diffusion.log_snr_max == 4
    other = resolve(read_config(None, [*ENDS, "diffusion.schedule=cosine"]))
    assert other.diffusion.log_snr_max is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["diffusion.log_snr_max=-6"], "log_snr_max=-6 must be above log_snr_min=-5"),
        (
            ["diffusion.log_snr_max=1", "diffusion.log_snr_min=1"],
            "log_snr_max=1 must be above log",
        ),
        (["diffusion.schedule=cosine", "diffusion.log_snr_max=5"], "log_snr_max=5 needs schedule"),
        (["diffusion.log_snr_max=99"], r"diffusion\.log_snr_max.*30"),
    ],
)
def test_a_schedule_that_ends_above_its_start_is_refused(settings, said):
    with pytest.raises(ValueError, match=said) as raised:
        resolve(read_config(None, [*ENDS, *settings]))
    assert "\n" not in str(raised.value)


def test_the_function_refuses_it_too():
    with pytest.raises(ValueError, match="2 is not above 3: use"):
        log_snr(10, log_snr_max=2, log_snr_min=3)


def gaussian_steps(schedule, m, s):
    """Return the sum of the steps' divergences for N(m, s^2) and its exact denoiser, in bits."""
    x0, eps, weights = quadrature(m, s)
    measured = bits_per_dim(
        GaussianDiffusion(schedule, "fixed_small"),
        gaussian_denoiser(m, s),
        x0,
        noise=lambda number: eps,
        clip=False,
        bits=None,
    )
    return float(weights @ measured.vb[:, :-1].sum(dim=1))


@pytest.mark.parametrize(("m", "s"), [(0.3, 0.5), (0.0, 0.05)])
def test_more_steps_come_to_the_integral_over_log_snr(m, s):
    """With mmse = s^2 / (1 + s^2 SNR), half of its integral over SNR has a closed form.

    The error of N steps falls as 1 / N (Kingma et al. 2021, section 4.2).
    """
    high, low = math.exp(13.3), math.exp(-5)
    exact = 0.5 * math.log2((1 + s**2 * high) / (1 + s**2 * low))
    errors = [gaussian_steps(log_snr(steps), m, s) - exact for steps in (51, 101, 201)]
    assert min(errors) > 0
    assert all(2 < before / after < 2.2 for before, after in pairwise(errors))
    assert abs(2 * errors[2] - errors[1]) < 0.03  # the part in 1 / N taken away


def test_sixteen_bits_keep_their_digits_in_float32():
    """Down to noise of 5e-6 where data of about 1 is rounded to 6e-8."""
    schedule = log_snr(1000, log_snr_max=log_snr_of_levels(16))
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(1000, 1, 64, dtype=torch.float64, generator=generator) * 2 - 1
    noise = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    x0, t = x0.float().double(), torch.arange(1000)
    level = schedule.at(t)
    x_t = diffusion.q_sample(x0, t, noise).float().double()
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt().reshape(-1, 1, 1)
    said = from_x0(x_t, (x0 + 0.3 * sigma * noise.flip(2)).float().double(), level)
    exact = vlb_term(diffusion, said, x0, x_t, t, bits=16)
    single = Prediction(said.x0.float(), said.eps.float())
    ours = vlb_term(diffusion, single, x0.float(), x_t.float(), t, bits=16)
    assert torch.allclose(ours.double()[1:], exact[1:], rtol=1e-3)


def two_modes():
    """Levels [256] in [-1, 1] and their probabilities: two Gaussians of 12 levels' deviation."""
    levels = torch.arange(256, dtype=torch.float64)
    p = sum(torch.exp(-0.5 * ((levels - center) / 12.05) ** 2) for center in (72, 184))
    return levels * 2 / 255 - 1, p / p.sum()


def exact_denoiser(grid, p, variance):
    """E[x0 | x_t] and, as raw channels, the log-variance of x_{t-1} given x_t."""

    def denoise(x_t, level):
        at = [value.reshape(-1, 1) for value in level]
        signal, total = at[0].sqrt(), 1 - at[0]
        far = -0.5 * (x_t[:, 0] - signal * grid) ** 2 / total
        q = torch.softmax(far + p.log(), dim=1)
        mean = q @ grid
        spread = (q * (grid - mean[:, None]) ** 2).sum(1)
        before, now = level.alpha_bar_prev, level.alpha_bar
        of_x0 = before.sqrt() * (1 - now / before) / (1 - now)
        raw = ((1 - now / before) * (1 - before) / (1 - now) + of_x0**2 * spread).clamp(1e-12).log()
        x0 = mean[:, None, None]
        eps = (x_t - signal[:, :, None] * x0) / total.sqrt()[:, :, None]
        return Prediction(x0, eps, raw[:, None, None], variance_kind=variance)

    return denoise


def test_the_bound_on_levels_of_known_entropy_is_just_above_it():
    """6.64 bits: what is lost are 0.05 to the Gaussian decoder, and steps that are no Gaussians."""
    grid, p = two_modes()
    entropy = float(-(p * p.log2()).sum())
    assert entropy == pytest.approx(6.6389, abs=0.01)
    nodes = torch.linspace(-4.8, 4.8, 25, dtype=torch.float64)
    weights = torch.outer(p, torch.softmax(-0.5 * nodes**2, 0)).flatten()
    seen = weights > 1e-8
    x0 = grid.repeat_interleave(len(nodes)).reshape(-1, 1, 1)[seen]
    eps, weights = nodes.repeat(len(grid)).reshape(-1, 1, 1)[seen], weights[seen]
    bounds = []
    for steps in (20, 40):
        schedule = log_snr(steps)
        measured = bits_per_dim(
            GaussianDiffusion(schedule, "learned"),
            exact_denoiser(grid, p, "learned"),
            x0,
            noise=lambda number: eps,
        )
        bounds.append(float(weights @ measured.total))
    assert entropy < bounds[1] < bounds[0] - 0.1
    assert bounds[1] < entropy + 0.2
