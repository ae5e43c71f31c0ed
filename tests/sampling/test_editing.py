"""Editing in closed form: where the conditional distribution and the ODE are known."""

import math
from collections import deque
from functools import partial

import pytest
import torch

from iddpm.diffusion import Prediction, cosine, linear
from iddpm.diffusion.prediction import from_previous, posterior_mean
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling import (
    DDIM,
    DDPM,
    IPNDM,
    DPMSolverPP,
    Heun,
    UniPC,
    clip_x0,
    even_timesteps,
    inpaint,
    invert,
    keep_known,
    log_snr_timesteps,
    noised,
    noisiest_step,
    redraw,
    sample,
    slerp,
)
from iddpm.sampling.editing import stretches
from tests.sampling.test_gaussian_data import exact_denoiser


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.float64, generator=generator)


def noise_of(shape):
    return lambda number: normal(*shape, seed=1000 + number)


def last(states):
    return deque(states, maxlen=1)[0].x


# ------------------------------------------------------------------------------ interpolation


def test_slerp_keeps_to_the_circle():
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 3.0]])
    weights = torch.tensor([0.0, 1 / 3, 0.5, 1.0])
    x = slerp(a, b, weights)
    assert x.shape == (4, 1, 2)
    torch.testing.assert_close(x.flatten(1).norm(dim=1), torch.full((4,), 3.0))
    angles = torch.atan2(x[:, 0, 1], x[:, 0, 0])
    torch.testing.assert_close(angles, weights * math.pi / 2, atol=1e-6, rtol=0)
    a, b = normal(3, 16, 16), normal(3, 16, 16, seed=1)
    ends = slerp(a, b, torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(ends[0], a)
    torch.testing.assert_close(ends[1], b)
    middle = slerp(a, b, torch.tensor([0.5]))[0]
    assert float(middle.std()) == pytest.approx(1, abs=0.05)
    assert float(((a + b) / 2).std()) < 0.8  # the straight line leaves where noise lies
    torch.testing.assert_close(slerp(a, a, torch.tensor([0.3]))[0], a)


def pictures(count=6, size=8):
    """Smooth pictures in [-1, 1], [N, 1, H, W]."""
    y, x = torch.meshgrid(*[torch.linspace(0, 3, size, dtype=torch.float64)] * 2, indexing="ij")
    waves = [torch.sin(x * (k + 1) / 2 + y * (k % 3) + k) for k in range(count)]
    return torch.stack(waves)[:, None]


def near_pictures(x_t, level, width=0.1):
    """The exact denoiser of data spread by ``width`` around the pictures."""
    data = pictures()
    alpha_bar = broadcast(level.alpha_bar, x_t)
    variance = alpha_bar * width**2 + 1 - alpha_bar
    difference = x_t[:, None] - alpha_bar.sqrt()[:, None] * data[None]
    share = (-difference.square().flatten(2).sum(2) / (2 * variance.reshape(-1, 1))).softmax(1)
    gain = (alpha_bar.sqrt() * width**2 / variance)[:, None]
    x0 = (share[..., None, None, None] * (data[None] + gain * difference)).sum(1)
    return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())


@pytest.mark.parametrize("make", [linear, cosine])
def test_the_ends_of_an_interpolation_reproduce_their_items(make):
    whole = make(1000)
    whole = whole.respace(range(noisiest_step(whole) + 1))
    schedule = whole.respace(even_timesteps(len(whole), 250))
    x0 = (pictures() + 0.1 * normal(6, 1, 8, 8)).clamp(-1, 1)
    noise = invert(near_pictures, schedule, x0)
    ends = slerp(noise[0], noise[1], torch.tensor([0.0, 1.0]))
    back = sample(DDIM(), near_pictures, schedule, ends)
    error = (back - x0[:2]).square().mean((1, 2, 3))
    psnr = 10 * torch.log10(4 / error)
    assert float(psnr.min()) > 40, psnr


def test_the_step_below_a_noise_level():
    sigma = (-cosine(1000).half_log_snr).exp()
    step = noisiest_step(cosine(1000))
    assert sigma[step] <= 80 < sigma[step + 1]
    assert noisiest_step(linear(1000), 1e3) == 999
    assert noisiest_step(cosine(10), 1e-9) == 0


# ---------------------------------------------------------------------------------- redrawing


@pytest.mark.parametrize("step", [60, 400, 900])
def test_redrawing_goes_to_the_level_and_back(step):
    """The ODE is linear for Gaussian data, so where each item ends is known."""
    m, s = 0.2, 0.5
    schedule = cosine(1000).respace(range(step + 1))
    x0, initial = normal(5, 1, 1), normal(5, 1, 1, seed=1)
    x = last(redraw(DDIM(), exact_denoiser(m, s), schedule, x0, initial))
    alpha_bar = float(schedule.alpha_bar[-1])
    there = math.sqrt(alpha_bar) * x0 + math.sqrt(1 - alpha_bar) * initial
    spread = math.sqrt(alpha_bar * s**2 + 1 - alpha_bar)
    wanted = m + s / spread * (there - math.sqrt(alpha_bar) * m)
    torch.testing.assert_close(x, wanted, atol=5e-3, rtol=0)
    torch.testing.assert_close(noised(schedule, x0, initial), there)


# ----------------------------------------------------------------------------------- filling in

MEAN = torch.tensor([0.2, -0.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.25, 0.2], [0.2, 0.25]], dtype=torch.float64)
MASK = torch.tensor([[[False, True]]])


def two_numbers(x_t, level):
    """The exact denoiser of two correlated numbers."""
    alpha_bar = level.alpha_bar[0]
    total = alpha_bar * COVARIANCE + (1 - alpha_bar) * torch.eye(2, dtype=torch.float64)
    factor = alpha_bar.sqrt() * COVARIANCE @ torch.linalg.inv(total)
    x0 = MEAN + (x_t - alpha_bar.sqrt() * MEAN) @ factor.T
    return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())


def test_resampling_comes_near_the_conditional_distribution():
    """What replacement alone misses, RePaint largely finds: the mean of one number given the other.

    Exact: 0.46 and a standard deviation of 0.3. Replacement stays half way.
    """
    schedule = cosine(1000).respace(even_timesteps(1000, 50))
    known = torch.zeros(8000, 1, 2, dtype=torch.float64)
    known[..., 0] = 0.9
    gain = COVARIANCE[1, 0] / COVARIANCE[0, 0]
    mean = float(MEAN[1] + gain * (0.9 - MEAN[0]))
    spread = math.sqrt(COVARIANCE[1, 1] - gain * COVARIANCE[0, 1])
    found = {}
    for resample in (1, 5):
        x = last(
            inpaint(DDIM(1.0), two_numbers, schedule, known, MASK, normal(*known.shape),
                    resample=resample, jump=5, noise=noise_of(known.shape))
        )  # fmt: skip
        found[resample] = float(x[..., 1].mean()), float(x[..., 1].std())
    assert abs(found[1][0] - mean) > 0.18
    assert abs(found[5][0] - mean) < 0.08
    assert found[5][1] == pytest.approx(spread, abs=0.04)


def test_of_independent_parts_replacement_is_exact():
    """Where the known part says nothing of the rest, the rest is drawn as without it."""
    schedule = cosine(400).respace(even_timesteps(400, 40))
    denoise, shape = exact_denoiser(0.3, 0.5), (3, 1, 6)
    mask = (torch.arange(6) % 2 == 0).expand(1, 1, 6)
    initial, known = normal(*shape), normal(*shape, seed=5)
    for sampler in (DDIM(), DDIM(1.0), DDPM(), UniPC(3)):
        noise = noise_of(shape)
        x = last(inpaint(sampler, denoise, schedule, known, mask, initial, noise=noise))
        free = sample(sampler, denoise, schedule, initial, noise=noise)
        torch.testing.assert_close(x, torch.where(mask, free, known))


@pytest.mark.parametrize(
    "sampler",
    [DDIM(), DDIM(1.0), DDPM(), Heun(), IPNDM(4), DPMSolverPP(3), DPMSolverPP(2, True), UniPC(3)],
    ids=str,
)
@pytest.mark.parametrize("resample", [1, 3])
def test_what_is_known_follows_the_forward_process_and_ends_bit_for_bit(sampler, resample):
    schedule = cosine(300).respace(log_snr_timesteps(cosine(300), 10))
    shape = (2000, 1, 2)
    known, initial = normal(*shape, seed=9).clamp(-1, 1).float(), normal(*shape).float()
    noise = noise_of(shape)

    def single(number):
        return noise(number).float()

    def single_numbers(x_t, level):
        prediction = two_numbers(x_t.double(), level)
        return Prediction(prediction.x0.float(), prediction.eps.float())

    states = inpaint(sampler, clip_x0(single_numbers), schedule, known, MASK, initial,
                     resample=resample, jump=3, noise=single)  # fmt: skip
    for state in states:
        if state.index == 0:
            continue
        # The noise in the known part is standard normal at every level, and only there is noise.
        alpha_bar = float(schedule.alpha_bar[state.index - 1])
        left = (state.x - math.sqrt(alpha_bar) * known)[..., 0] / math.sqrt(1 - alpha_bar)
        assert float(left.mean()) == pytest.approx(0, abs=0.08)
        assert float(left.std()) == pytest.approx(1, abs=0.08)
    assert torch.equal(state.x[..., 0], known[..., 0])
    assert float(state.x[..., 1].abs().max()) <= 1.001
    assert state.number == sum(a - b for a, b in stretches(10, resample, 3))


class Rough:
    """A sampler that does not quite arrive at its estimate."""

    def step(self, denoise, x, i, schedule, draw, memory):
        step = DDIM().step(denoise, x, i, schedule, draw)
        return step._replace(x=step.x + 1e-6)


def test_what_is_known_does_not_depend_on_how_a_sampler_rounds():
    known = normal(3, 1, 2)
    schedule = cosine(20).respace([3, 9, 19])
    x = last(inpaint(Rough(), two_numbers, schedule, known, MASK, normal(3, 1, 2, seed=1)))
    assert torch.equal(x[..., 0], known[..., 0])


def test_a_predicted_mean_is_that_of_what_is_known():
    level = cosine(100).at(torch.full((4,), 30))
    x_t, known = normal(4, 1, 2), normal(4, 1, 2, seed=3)
    mean = normal(4, 1, 2, seed=4)

    def previous(x_t, level):
        return from_previous(x_t, mean, level)

    kept = keep_known(previous, known, MASK)(x_t, level)
    wanted = torch.where(MASK, mean, posterior_mean(known, x_t, level))
    torch.testing.assert_close(kept.mean, wanted)
    torch.testing.assert_close(kept.x0[..., 0], known[..., 0])


def test_labels_and_estimates_reach_the_model():
    seen = []

    def model(x_t, level, y, estimate=None):
        seen.append((y.tolist(), estimate is not None))
        return Prediction(0 * x_t, x_t)

    schedule, x = cosine(20).respace([0, 9, 19]), normal(2, 1, 2)
    y = torch.tensor([3, 4])
    last(inpaint(DDIM(), model, schedule, x, MASK, x, self_condition=True, y=y))
    last(redraw(DDIM(), partial(model, y=y), schedule, x, x, self_condition=True))
    assert seen == [([3, 4], False), ([3, 4], True), ([3, 4], True)] * 2


def published(steps, resample, jump):
    """The times of RePaint's schedule, a step at a time: their appendix, in our counting."""
    left = dict.fromkeys(range(0, steps - jump, jump), resample - 1)
    t, times = steps, [steps]
    while t >= 1:
        t -= 1
        times.append(t)
        if left.get(t, 0) > 0:
            left[t] -= 1
            for _ in range(jump):
                t += 1
                times.append(t)
    return times


@pytest.mark.parametrize(
    ("steps", "resample", "jump"), [(10, 1, 3), (10, 3, 4), (5, 2, 1), (50, 10, 10), (250, 10, 10)]
)
def test_stretches_are_those_of_the_paper(steps, resample, jump):
    times, parts = [steps], stretches(steps, resample, jump)
    for left, down_to in parts:
        times += range(times[-1] + 1, left + 1)
        times += range(left - 1, down_to - 1, -1)
    assert times == published(steps, resample, jump)


@pytest.mark.parametrize(
    ("resample", "jump", "message"),
    [(0, 1, "resample=0"), (1, 0, "jump=0"), (2, 10, "jump=10 cannot go back within 10 steps")],
)
def test_walks_that_go_nowhere_are_refused(resample, jump, message):
    with pytest.raises(ValueError, match=message):
        stretches(10, resample, jump)
