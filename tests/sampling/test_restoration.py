"""Restoration of Gaussian data: the model is exact, and so is the posterior, in closed form."""

import math

import numpy as np
import pytest
import torch

from iddpm.diffusion import Prediction, cosine, linear
from iddpm.sampling import (
    DDIM,
    DPMSolverPP,
    classifier_free,
    clip_x0,
    log_snr_timesteps,
    restoration,
    sample,
    tiled,
)
from iddpm.sampling.operators import Downscale, Mask, Subsample
from iddpm.sampling.restoration import NOISIEST_GRADIENT, ddnm, mmps, pigdm, recomputed
from iddpm.sampling.spectral_operators import Convolution, Matrix, gaussian_kernel
from tests.sampling.test_operators import dense, normal

LENGTH = 6
SHAPE = (1, LENGTH)
MEAN = torch.linspace(-0.4, 0.5, LENGTH, dtype=torch.float64)
DISTANCE = torch.arange(LENGTH, dtype=torch.float64)
COVARIANCE = 0.25 * 0.8 ** (DISTANCE[:, None] - DISTANCE).abs()
WHITE = 0.25 * torch.eye(LENGTH, dtype=torch.float64)


def exact(covariance=COVARIANCE):
    """E[x0 | x_t] of N(MEAN, covariance), for items [N, 1, LENGTH]."""

    def denoise(x_t, level, /, y=None):
        alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
        total = alpha_bar * covariance + (1 - alpha_bar) * torch.eye(LENGTH, dtype=torch.float64)
        gain = alpha_bar.sqrt() * torch.linalg.solve(total, covariance)  # both commute
        x0 = MEAN + ((x_t - alpha_bar.sqrt() * MEAN) @ gain)
        return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())

    return denoise


def posterior(covariance, a, y, noise):
    """Mean and covariance of x0 given y = A x0 + noise, as numpy has them."""
    c = covariance.numpy()
    gain = c @ a.T @ np.linalg.pinv(a @ c @ a.T + noise**2 * np.eye(len(a)), rcond=1e-10)
    mean = MEAN.numpy() + gain @ (y - a @ MEAN.numpy())
    return mean, c - gain @ a @ c


def posterior_at(covariance, a, y, noise, x_t, alpha_bar):
    """E[x0 | x_t, y]: both are measurements of x0."""
    stacked = np.concatenate([a / noise, math.sqrt(alpha_bar / (1 - alpha_bar)) * np.eye(LENGTH)])
    seen = np.concatenate([y / noise, x_t / math.sqrt(1 - alpha_bar)])
    return posterior(covariance, stacked, seen, 1.0)[0]


OPERATORS = {
    "mask": Mask(SHAPE, torch.tensor([[True, False, True, True, False, False]])),
    "subsample": Subsample(SHAPE, (2,)),
    "downscale": Downscale(SHAPE, (3,)),
    "blur": Convolution(SHAPE, gaussian_kernel(0.8, 1)),
    "matrix": Matrix(SHAPE, normal(4, LENGTH)),
}
SCHEDULE = cosine(1000)


def deviations(method, covariance, name, noise, **options):
    """The largest difference from E[x0 | x_t, y] over noise levels, and the largest correction."""
    operator = OPERATORS[name]
    a = dense(operator.forward, SHAPE)
    if name == "mask":  # where nothing is measured there is nothing to explain either
        a = a[np.abs(a).sum(1) > 0]
    measured = operator.forward(normal(1, *SHAPE, seed=7))
    rows = measured.flatten().numpy()
    if name == "mask":
        rows = rows[OPERATORS["mask"].measured.flatten().numpy()]
    model = method(exact(covariance), operator, noise, **options)
    worst = moved = 0.0
    for t in (30, 300, 600, 900):
        x_t, level = normal(1, *SHAPE, seed=t), SCHEDULE.at(torch.tensor([t]))
        found = model(x_t, level, measured=measured)
        alpha_bar = float(level.alpha_bar)
        wanted = posterior_at(covariance, a, rows, noise, x_t.flatten().numpy(), alpha_bar)
        worst = max(worst, float(np.abs(found.x0.flatten().numpy() - wanted).max()))
        plain = exact(covariance)(x_t, level).x0
        moved = max(moved, float((found.x0 - plain).abs().max()))
        back = alpha_bar**0.5 * found.x0 + (1 - alpha_bar) ** 0.5 * found.eps
        assert torch.allclose(back, x_t)  # eps is the one that goes with x0
        assert not found.x0.requires_grad
    return worst, moved


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("noise", [0.02, 0.3])
def test_mmps_is_the_posterior_mean_of_any_gaussian_data(name, noise):
    worst, moved = deviations(mmps, COVARIANCE, name, noise, solves=30, ridge=0.0)
    assert worst < 1e-4 < 0.1 < moved
    for options in ({"solves": 1, "ridge": 0.0}, {"solves": 30, "ridge": 0.3}):
        assert deviations(mmps, COVARIANCE, name, noise, **options)[0] > 1e-3


@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.parametrize("noise", [0.02, 0.3])
@pytest.mark.parametrize("method", [ddnm, pigdm])
def test_ddnm_and_pigdm_are_the_posterior_mean_of_white_gaussian_data(method, noise, name):
    worst, moved = deviations(method, WHITE, name, noise, data_std=0.5)
    assert worst < 1e-4 < 0.1 < moved
    assert deviations(method, WHITE, name, noise, data_std=2.0)[0] > 1e-4
    assert deviations(method, COVARIANCE, name, noise)[0] > 0.01  # and of no other


def moments(model, sampler, schedule, measured):
    """Mean and covariance of what a deterministic sampler makes of white noise, exactly."""
    start = torch.cat([torch.zeros(1, LENGTH, dtype=torch.float64), torch.eye(LENGTH).double()])
    y = measured.expand(LENGTH + 1, *measured.shape[1:])
    ends = sample(sampler, model, schedule, start[:, None], measured=y)[:, 0]
    slopes = ends[1:] - ends[:1]
    return ends[0].numpy(), (slopes.T @ slopes).numpy()


@pytest.mark.parametrize("name", ["mask", "blur", "matrix"])
def test_what_is_drawn_with_mmps_is_the_posterior(name, monkeypatch):
    """No Monte Carlo: a deterministic sampler is an affine map of its noise.

    What remains is the error of the solver, which falls with its steps.
    """
    monkeypatch.setattr(restoration, "NOISIEST_GRADIENT", math.inf)  # this model has no errors
    operator, noise, errors = OPERATORS[name], 0.1, []
    a, measured = dense(operator.forward, SHAPE), operator.forward(normal(1, *SHAPE, seed=7))
    mean, covariance = posterior(COVARIANCE, a, measured.flatten().numpy(), noise)
    for steps in (25, 100):
        schedule = SCHEDULE.respace(log_snr_timesteps(SCHEDULE, steps, sigma_max=80.0))
        model = mmps(exact(), operator, noise, solves=30, ridge=0.0)
        found = moments(model, DPMSolverPP(2), schedule, measured)
        errors.append(
            (np.abs(found[0] - mean).max(), np.abs(found[1] - covariance).max() / covariance.max())
        )
    assert errors[1][0] < 0.01
    assert errors[1][1] < 0.02
    assert errors[1][1] < errors[0][1] / 3


def test_samples_agree_with_the_posterior_within_monte_carlo_error(monkeypatch):
    monkeypatch.setattr(restoration, "NOISIEST_GRADIENT", math.inf)
    count, noise, operator = 4000, 0.1, OPERATORS["mask"]
    a, measured = dense(operator.forward, SHAPE), operator.forward(normal(1, *SHAPE, seed=7))
    mean, covariance = posterior(COVARIANCE, a, measured.flatten().numpy(), noise)
    schedule = SCHEDULE.respace(log_snr_timesteps(SCHEDULE, 60, sigma_max=80.0))
    x = sample(
        DPMSolverPP(2, stochastic=True),
        mmps(exact(), operator, noise, solves=12, ridge=0.0),
        schedule,
        normal(count, *SHAPE, seed=1),
        noise=lambda k: normal(count, *SHAPE, seed=100 + k),
        measured=measured.expand(count, *SHAPE),
    )[:, 0].numpy()
    deviation = np.sqrt(np.diag(covariance))
    assert np.abs((x.mean(0) - mean) / (deviation / math.sqrt(count))).max() < 5
    variance_error = deviation**2 * math.sqrt(2 / count)
    assert np.abs((x.var(0) - deviation**2) / variance_error).max() < 6


def ddnm_by_hand(operator, schedule, y):
    """Mean and covariance of DDIM with the measured part replaced, as matrices in numpy."""
    a = dense(operator.forward, SHAPE)
    pinv, c, eye = np.linalg.pinv(a), COVARIANCE.numpy(), np.eye(LENGTH)
    null, m = eye - pinv @ a, MEAN.numpy()
    slope, constant = eye, np.zeros(LENGTH)
    alpha_bar = [1.0, *schedule.alpha_bar.tolist()]
    for i in reversed(range(len(schedule))):
        now, before = alpha_bar[i + 1], alpha_bar[i]
        gain = math.sqrt(now) * c @ np.linalg.inv(now * c + (1 - now) * eye)
        of_x = null @ gain
        fixed = null @ (m - gain @ (math.sqrt(now) * m)) + pinv @ y
        towards = math.sqrt((1 - before) / (1 - now))
        of_x0 = math.sqrt(before) - towards * math.sqrt(now)
        step = of_x0 * of_x + towards * eye
        slope, constant = step @ slope, step @ constant + of_x0 * fixed
    return constant, slope @ slope.T


@pytest.mark.parametrize("name", ["mask", "subsample", "downscale"])
def test_ddnm_draws_what_its_recursion_says_and_not_the_posterior(name):
    """It has the measurement exactly, and the mean of what it has not is wrong."""
    operator = OPERATORS[name]
    a, measured = dense(operator.forward, SHAPE), operator.forward(normal(1, *SHAPE, seed=7))
    schedule = SCHEDULE.respace(log_snr_timesteps(SCHEDULE, 40, sigma_max=80.0))
    found = moments(ddnm(exact(), operator), DDIM(), schedule, measured)
    wanted = ddnm_by_hand(operator, schedule, measured.flatten().numpy())
    assert np.allclose(found[0], wanted[0], atol=1e-9)
    assert np.allclose(found[1], wanted[1], atol=1e-9)
    assert np.allclose(a @ found[0], measured.flatten().numpy(), atol=1e-9)
    assert np.abs(a @ found[1] @ a.T).max() < 1e-9
    mean, covariance = posterior(COVARIANCE, a, measured.flatten().numpy(), 0.0)
    assert np.abs(found[0] - mean).max() > 0.02
    assert not np.allclose(found[1], covariance, atol=0.001)


def test_without_noise_the_range_is_replaced():
    """Wang et al. 2023, equation 13: A x0 = y at every step, and the null space stays."""
    operator, x_t = OPERATORS["downscale"], normal(2, *SHAPE)
    level, y = SCHEDULE.at(torch.tensor([500, 200])), operator.forward(normal(2, *SHAPE, seed=3))
    found = ddnm(exact(), operator)(x_t, level, measured=y).x0
    plain = exact()(x_t, level).x0
    assert torch.allclose(operator.forward(found), y)
    null = found - operator.inverse(operator.forward(found))
    assert torch.allclose(null, plain - operator.inverse(operator.forward(plain)))


def test_pure_noise_and_the_noisiest_levels_need_no_gradient():
    def flat(x_t, level, /):
        return exact()(x_t.detach(), level)  # has none

    schedule = linear(1000)
    sigma = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
    t = int((sigma <= NOISIEST_GRADIENT).sum())
    y = OPERATORS["mask"].forward(normal(1, *SHAPE))
    for method in (mmps, pigdm):
        x0 = method(flat, OPERATORS["mask"])(
            normal(1, *SHAPE), schedule.at(torch.tensor([t])), measured=y
        ).x0
        assert x0.isfinite().all()
        with pytest.raises(RuntimeError):
            method(flat, OPERATORS["mask"])(
                normal(1, *SHAPE), schedule.at(torch.tensor([t - 1])), measured=y
            )


def test_it_goes_around_guidance_and_tiles_and_within_clipping():
    """A gradient through tiles that are computed again is that of the whole."""
    calls = []

    def local(x_t, level, /, y=None):
        calls.append(x_t.requires_grad)
        alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
        x0 = 0.4 * x_t.tanh() + (0 if y is None else 0.1 * y.double().reshape(-1, 1, 1))
        return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())

    operator = Convolution((1, 20), gaussian_kernel(1.0, 1))
    x_t, level = normal(2, 1, 20), SCHEDULE.at(torch.tensor([300, 500]))
    y = operator.forward(normal(2, 1, 20, seed=4))
    labels = torch.tensor([1, 2])
    guided = classifier_free(local, 2.0)
    whole = clip_x0(mmps(guided, operator, 0.1))(x_t, level, measured=y, y=labels)
    calls.clear()
    tiles = tiled(recomputed(guided), (8,), overlap=0.5, at_once=3)
    found = clip_x0(mmps(tiles, operator, 0.1))(x_t, level, measured=y, y=labels)
    assert torch.allclose(found.x0, whole.x0, atol=1e-9)
    assert len(calls) > 2 * 8 / 3 * 2  # once forward, and again for gradients
    assert float(found.x0.abs().max()) <= 1


@pytest.mark.parametrize("method", [mmps, pigdm, ddnm])
def test_bad_options_are_said(method):
    with pytest.raises(ValueError, match="noise is -1: give a standard deviation, 0 or more"):
        method(exact(), OPERATORS["mask"], -1.0)
    model = method(exact(), OPERATORS["mask"])
    level = SCHEDULE.at(torch.tensor([500]))
    with pytest.raises(ValueError, match="is called with measured"):
        model(normal(1, *SHAPE), level)
    with pytest.raises(ValueError, match=r"shape \(1, 5\) were given"):
        model(normal(1, *SHAPE), level, measured=normal(1, 1, 5))
    with pytest.raises(ValueError, match="0 steps of conjugate gradients solve nothing"):
        mmps(exact(), OPERATORS["mask"], solves=0)
