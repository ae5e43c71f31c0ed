"""Sampling from a schedule that ends in pure noise, where the log-SNR is -infinity."""

import math

import pytest
import torch

from iddpm.builders.sampling_plan import Method, build_sampler, build_sampling_schedule
from iddpm.config.choices import SAMPLERS as CHOICES
from iddpm.diffusion import cosine, linear, zero_terminal_snr
from iddpm.sampling import (
    classifier_free,
    clip_x0,
    invert,
    karras_timesteps,
    log_snr_timesteps,
    sample,
)
from tests.sampling.test_gaussian_data import exact_denoiser

SAMPLERS = [
    "ddpm",
    "ddim",
    "heun",
    "ipndm",
    "dpmpp_2m",
    "dpmpp_3m",
    "dpmpp_2m_sde",
    "unipc_2",
    "unipc_3",
]


def spaced(whole, name, steps, spacing="auto"):
    """The steps of so many evaluations; the automatic spacing by the sampler."""
    if spacing == "auto":
        spacing = CHOICES[name].spacing
    return build_sampling_schedule(whole, Method(name, spacing), steps)


def moments(sampler, denoise, schedule):
    """Exact mean and variance of the samples of an affine model.

    The first item has x_T = 0 and no noise, the second x_T = 1, the others 1 as the noise of one
    step each: every answer to a standard normal number is read off, hence nothing is Monte Carlo.
    """
    count = len(schedule)
    x_T = torch.zeros(count + 2, 1, 1, dtype=torch.float64)
    x_T[1] = 1.0
    noises = torch.zeros(count, count + 2, 1, 1, dtype=torch.float64)
    for number in range(count):
        noises[number, number + 2] = 1.0
    x = sample(sampler, denoise, schedule, x_T, noise=lambda number: noises[number]).flatten()
    answers = x[1:] - x[0]
    return float(x[0]), float((answers**2).sum())


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize("spacing", ["auto", "even", "log_snr", "karras"])
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_draws_gaussian_data_from_pure_noise(name, spacing, make):
    m, s = 0.3, 0.5
    schedule = spaced(zero_terminal_snr(make(1000)), name, 60, spacing)
    assert float(schedule.alpha_bar[-1]) == 0
    mean, variance = moments(build_sampler(name), exact_denoiser(m, s), schedule)
    assert mean == pytest.approx(m, abs=0.02)
    # The first steps divide the little signal by less than a thousandth in cosine's log-SNR.
    rough = 0.35 if spacing == "karras" or name in ("ddpm", "dpmpp_2m_sde") else 0.12
    assert math.sqrt(variance) == pytest.approx(s, rel=rough)


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("name", SAMPLERS)
def test_few_steps_stay_finite(name, steps):
    for spacing in ("auto", "even", "karras"):
        schedule = spaced(zero_terminal_snr(cosine(50)), name, steps, spacing)
        mean, variance = moments(build_sampler(name), exact_denoiser(0.3, 0.5), schedule)
        assert math.isfinite(mean)
        assert math.isfinite(variance)
        assert variance < 2 or name == "heun"  # which is not for few steps, as its docstring says
        if len(schedule) == 1:  # one look at pure noise tells the mean and nothing else
            assert mean == pytest.approx(0.3)
            assert variance == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("name", [n for n in SAMPLERS if n not in ("ddpm", "dpmpp_2m_sde")])
def test_the_mean_is_exact_where_a_schedule_with_some_signal_left_is_off(name):
    """What the rescaling is for: a sample's brightness is not tied to that of the noise."""
    m, whole = 0.8, linear(1000, beta_end=0.006)  # much signal left: alpha_bar_T = 0.047
    off = {}
    for schedule in (whole, zero_terminal_snr(whole)):
        mean, _ = moments(
            build_sampler(name), exact_denoiser(m, 0.2), spaced(schedule, name, 100, "even")
        )
        off[schedule.ends_in_pure_noise] = abs(mean - m)
    assert off[False] > 0.02
    assert off[True] < off[False] / 10


@pytest.mark.parametrize("spacing", [log_snr_timesteps, karras_timesteps])
def test_pure_noise_takes_the_place_of_the_noisiest_level(spacing):
    schedule = zero_terminal_snr(cosine(1000))
    finite = schedule.respace(range(999))
    for count in (1, 2, 3, 10, 25, 999):
        ours = spacing(schedule, count)
        assert ours == [*spacing(finite, count)[:-1], 999.0]
        assert len(schedule.respace(ours)) == count
    # The levels of a schedule that never gets to sigma = 80 end at its last finite one.
    short = zero_terminal_snr(cosine(20))
    assert len(short.respace(spacing(short, 20))) == 20
    assert spacing(schedule.respace([999]), 1) == [0.0]


@pytest.mark.parametrize("name", SAMPLERS)
def test_guidance_and_clipping_meet_infinite_sigma(name):
    exact = exact_denoiser(0.3, 0.5)

    def conditional(x_t, level, *, y):
        prediction = exact(x_t, level)
        x0 = prediction.x0 + 0.1 * y.reshape(-1, 1, 1)
        return prediction.with_x0(x0, x_t, level)

    denoise = clip_x0(classifier_free(conditional, 2.0))
    schedule = spaced(zero_terminal_snr(cosine(50)), name, 8)
    x_T = torch.randn(4, 1, 3, dtype=torch.float64)
    x = sample(build_sampler(name), denoise, schedule, x_T, y=torch.ones(4, dtype=torch.long))
    assert bool(x.isfinite().all())


def test_inversion_ends_in_pure_noise():
    schedule = zero_terminal_snr(cosine(200))
    x0 = torch.tensor([-0.2, 0.3, 0.8], dtype=torch.float64).reshape(3, 1, 1)
    low, middle, high = invert(exact_denoiser(0.3, 0.5), schedule, x0).flatten().tolist()
    assert middle == pytest.approx(0, abs=0.02)
    assert (high - low) / 2 == pytest.approx(1, abs=0.05)
