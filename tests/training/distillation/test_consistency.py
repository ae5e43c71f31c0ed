"""Consistency losses against closed forms: on Gaussian data, on two points, and by autograd."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from iddpm.diffusion import Denoiser, GaussianDiffusion, Prediction, cosine, linear
from iddpm.diffusion.prediction import eps_given_x0
from iddpm.diffusion.schedule import broadcast, zero_terminal_snr
from iddpm.sampling import Consistency, sample
from iddpm.training.distillation.consistency import (
    ConsistencyTimesteps,
    log_sigma_range,
    lower_sigma,
)
from iddpm.training.distillation.consistency_distillation import consistency_distillation
from iddpm.training.distillation.consistency_tuning import consistency_tuning

SPREAD = 0.5
"""Standard deviation of the Gaussian data, whose mean is 0."""
COSINE = cosine(100)


def sigma_of(level):
    return ((1 - level.alpha_bar) / level.alpha_bar).sqrt()


class Known:
    """A model whose estimate of x0 is a function of x0 + sigma eps and sigma."""

    prediction_type = None

    def __init__(self, function, schedule=COSINE):
        self.function = function
        self.diffusion = GaussianDiffusion(schedule, "fixed_small")

    def __call__(self, x_t, level, /, **conditioning):
        x = x_t / broadcast(level.alpha_bar.sqrt(), x_t)
        x0 = self.function(x, broadcast(sigma_of(level), x_t))
        return Prediction(x0, eps_given_x0(x_t, x0, level))


def batch(count=4096, dims=1, divisor_seed=0):
    generator = torch.Generator().manual_seed(divisor_seed)
    noise = torch.randn(count, dims, generator=generator, dtype=torch.float64)
    data = torch.randn(count, dims, generator=generator, dtype=torch.float64)
    uniform = torch.rand(count, generator=generator, dtype=torch.float64).numpy()
    return data, noise, uniform


def test_the_lower_level_is_that_of_the_formula():
    sigma = torch.tensor([0.05, 1.0, 40.0], dtype=torch.float64)
    wanted = [s * (1 - (1 + 8 / (1 + math.exp(s))) / 16) for s in sigma.tolist()]
    assert lower_sigma(sigma, 16).tolist() == pytest.approx(wanted, rel=1e-14)
    assert lower_sigma(sigma, 2).tolist()[:2] == [0, 0]  # the first stage of the long form


def test_levels_are_log_normal_within_the_range():
    timesteps = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0)
    uniform = (np.arange(2001) + 0.5) / 2001
    t, weights = timesteps.sample(uniform)
    log_sigma = sigma_of(COSINE.at(t)).log()
    lowest, highest = log_sigma_range(COSINE, 80.0)
    inside = (log_sigma > lowest + 1e-6) & (log_sigma < highest - 1e-6)
    wanted = -1.1 + 2 * torch.special.ndtri(torch.from_numpy(uniform))
    torch.testing.assert_close(log_sigma[inside], wanted[inside], rtol=0, atol=1e-9)
    assert float(log_sigma.min()) == pytest.approx(-float(COSINE.half_log_snr[0]))
    assert float(log_sigma.max()) == pytest.approx(math.log(80))  # the cosine's end is 20,291
    assert bool((weights == 1).all())


def test_the_range_leaves_out_pure_noise_and_ends_with_the_process():
    noisy = zero_terminal_snr(linear(100))
    assert log_sigma_range(noisy, 1e9)[1] == -float(noisy.half_log_snr[-2])
    t = ConsistencyTimesteps(noisy, 30.0, 1.0, 1e9).sample(np.array([0.5])).t
    assert sigma_of(noisy.at(t)).isfinite().all()
    with pytest.raises(ValueError, match="above the lowest noise level"):
        log_sigma_range(COSINE, 1e-4)


class Small(nn.Module):
    """A network with a few weights: v is linear in x and the time input, then a tanh."""

    def __init__(self, dims):
        super().__init__()
        self.layer = nn.Linear(dims + 1, dims, dtype=torch.float64)

    def forward(self, x, shown):
        time = shown.double()[:, None] / 1000
        return torch.tanh(self.layer(torch.cat([x, time], dim=1)))


@pytest.mark.parametrize("predicts", ["v", "edm", "x0"])
@pytest.mark.parametrize("divisor", [3.0, 16.0, 256.0])
def test_the_gradient_is_that_of_the_definition(predicts, divisor):
    torch.manual_seed(0)
    network = Small(3)
    denoiser = Denoiser(network, GaussianDiffusion(COSINE, "fixed_small"), predicts)
    data, noise, uniform = batch(32, 3)
    t, _ = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0).sample(uniform)
    terms = consistency_tuning(denoiser, data, t, noise, divisor=divisor)
    terms.loss.mean().backward()
    found = [p.grad.clone() for p in network.parameters()]

    def estimate(x, sigma, network):  # of x0, from x0 + sigma eps
        alpha_bar = 1 / (1 + sigma**2)
        level = COSINE.at(COSINE.position_of(-sigma.log()))
        level = level._replace(alpha_bar=alpha_bar)
        model = Denoiser(network, denoiser.diffusion, predicts)
        return model(x * alpha_bar.sqrt()[:, None], level).x0

    sigma = sigma_of(COSINE.at(t))
    r = sigma * (1 - (1 + 8 * torch.sigmoid(-sigma)) / divisor)
    lowest = math.exp(-float(COSINE.half_log_snr[0]))
    frozen = Small(3)
    frozen.load_state_dict(network.state_dict())
    losses = []
    for k in range(32):
        s, one = sigma[k : k + 1], slice(k, k + 1)
        x = data[one] + s * noise[one]
        target = data[one]
        if r[k] > lowest:
            with torch.no_grad():
                target = estimate(data[one] + r[k] * noise[one], r[k : k + 1], frozen)
        distance = ((estimate(x, s, network) - target) ** 2).sum().sqrt()
        losses.append(distance / (s[0] - max(float(r[k]), 0)))
    loss = torch.stack(losses)
    torch.testing.assert_close(terms.loss.double(), loss, rtol=1e-4, atol=1e-6)
    network.zero_grad()
    loss.mean().backward()
    for one, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=1e-4, atol=1e-6)
    anchored = r <= lowest
    assert 0 < int(anchored.sum()) < len(anchored)


def test_both_sides_have_the_same_dropout_mask():
    masks = []

    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.dropout = nn.Dropout(0.5)

        def forward(self, x, shown):
            mask = self.dropout(torch.ones(x.shape))
            masks.append(mask)
            return self.scale * x * mask

    denoiser = Denoiser(Dropped(), GaussianDiffusion(COSINE, "fixed_small"), "v")
    t = torch.tensor([20.5, 60.5], dtype=torch.float64)
    x = torch.randn(2, 64)
    for _ in range(2):
        consistency_tuning(denoiser, x, t, torch.randn(2, 64), divisor=16.0).loss.sum().backward()
    first, second, third, fourth = masks
    assert torch.equal(first, second)
    assert torch.equal(third, fourth)
    assert not torch.equal(first, third)  # another step, another mask


def gaussian_end(x, sigma):
    """Where the probability-flow ODE of the Gaussian data leads."""
    return x * SPREAD / (SPREAD**2 + sigma**2).sqrt()


def gaussian_mean(x, sigma):
    """What a perfect denoiser of it estimates."""
    return x * SPREAD**2 / (SPREAD**2 + sigma**2)


def test_the_known_function_of_gaussian_data_is_the_fixed_point_of_distillation():
    data, noise, uniform = batch()
    teacher = Known(gaussian_mean)
    t, _ = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0).sample(uniform)

    def loss(function, divisor):
        known = Known(function)
        terms = consistency_distillation(
            known, SPREAD * data, t, noise, teacher=teacher, divisor=divisor
        )
        away = sigma_of(COSINE.at(t)) > 0.1  # from the anchor, which is the teacher's estimate
        return float(terms.loss.double()[away].mean())

    known = [loss(gaussian_end, divisor) for divisor in (100.0, 1000.0)]
    assert known[0] / known[1] == pytest.approx(10, rel=0.1)  # the error of DDIM's one step
    other = [loss(lambda x, s: 0.9 * gaussian_end(x, s) + s, d) for d in (100.0, 1000.0)]
    assert other[1] > 0.9 * other[0]


def test_the_known_function_of_two_points_has_no_loss():
    data, noise, uniform = batch()
    teacher = Known(lambda x, s: torch.tanh(x / s**2))
    t, _ = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0).sample(uniform)
    # A step of the teacher never changes the sign, and the sign is the end of the path.
    away = sigma_of(COSINE.at(t)) > 0.1
    points = data.sign()
    for function, good in ((lambda x, s: x.sign(), True), (lambda x, s: (x - s).sign(), False)):
        terms = consistency_distillation(
            Known(function), points, t, noise, teacher=teacher, divisor=16.0
        )
        assert (float(terms.loss[away].max()) == 0) is good


LOWEST = math.exp(-float(COSINE.half_log_snr[0]))


def tuned_slope(sigma, divisor):
    """Return the slope a of the fixed point D(x) = a x of tuning on the Gaussian data.

    The best estimate of a_r x_r from x_sigma, by the covariance of the two; the data at the end.
    """
    slope, sigma = torch.ones_like(sigma), sigma.clone()
    going = torch.ones_like(sigma, dtype=torch.bool)
    while bool(going.any()):
        r = lower_sigma(sigma, divisor)
        r = torch.where(r > LOWEST, r, 0.0)  # the data, whose level is 0
        factor = (SPREAD**2 + r * sigma) / (SPREAD**2 + sigma**2)
        slope = torch.where(going, slope * factor, slope)
        sigma, going = r, going & (r > 0)
    return slope


def test_the_fixed_point_of_tuning_approaches_the_end_of_the_path():
    sigma = torch.tensor([0.3, 1.0, 8.0], dtype=torch.float64)
    end = gaussian_end(torch.ones(3), sigma)
    coarse, fine = (((tuned_slope(sigma, q) - end) / end).abs().max() for q in (20.0, 2000.0))
    assert fine < 0.02 < coarse


def test_the_gradient_of_tuning_vanishes_at_its_fixed_point_and_nowhere_else():
    data, noise, uniform = batch(20_000, 4)
    t, _ = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0).sample(uniform)

    def slopes(base):  # the gradient by item, in the directions of three bumps of ln sigma
        moved = torch.zeros(len(data), 3, dtype=torch.float64, requires_grad=True)
        centers = torch.tensor([-3.0, -1.0, 1.0])

        def function(x, s):
            bumps = torch.exp(-((s.log() - centers) ** 2))
            return (base(s) + (moved * bumps).sum(dim=1, keepdim=True)) * x

        terms = consistency_tuning(Known(function), SPREAD * data, t, noise, divisor=16.0)
        terms.loss.double().sum().backward()
        gradient = moved.grad
        return gradient.mean(dim=0) / (gradient.std(dim=0) / math.sqrt(len(gradient)))

    assert float(slopes(lambda s: tuned_slope(s, 16.0)).abs().max()) < 4  # standard errors
    assert float(slopes(lambda s: gaussian_mean(1.0, s)).abs().max()) > 20


class Slope(nn.Module):
    """v = g(t) x with a free g, a small network of the time input."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 1))

    def forward(self, x, shown):
        angle = shown[:, None] / 1000 * math.pi / 2 * torch.arange(1, 5)
        return x * self.net(torch.cat([angle.cos(), angle.sin()], dim=1))


@pytest.mark.slow  # 1,500 steps of a tiny network
def test_training_on_gaussian_data_approaches_the_known_function():
    torch.manual_seed(0)
    network = Slope()
    denoiser = Denoiser(network, GaussianDiffusion(COSINE, "fixed_small"), "v")
    timesteps = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0)
    optimizer = torch.optim.RAdam(network.parameters(), lr=3e-3)
    steps = 1500
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / steps)
        data, noise, uniform = (torch.randn(128, 8), torch.randn(128, 8), torch.rand(128))
        t, _ = timesteps.sample(uniform.double().numpy())
        loss = consistency_tuning(denoiser, SPREAD * data, t, noise, divisor=16.0).loss.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sigma = torch.tensor([0.3, 1.0, 3.0, 8.0], dtype=torch.float64)
    level = COSINE.at(COSINE.position_of(-sigma.log()))
    x_t = level.alpha_bar.sqrt().float()[:, None]  # x is 1
    with torch.no_grad():
        found = denoiser(x_t, level).x0[:, 0]
    wanted = tuned_slope(sigma, 16.0).float()
    means = gaussian_mean(torch.ones(4), sigma).float()
    assert bool(((found - wanted).abs() < 0.25 * (means - wanted).abs()).all()), (found, wanted)


@pytest.mark.parametrize("sigmas", [[80.0], [80.0, 0.8], [80.0, 5.0, 1.1, 0.5]])
def test_samples_of_the_known_function_have_the_distribution_of_the_data(sigmas):
    lam = -torch.tensor(sigmas[::-1], dtype=torch.float64).log()
    schedule = COSINE.respace(COSINE.position_of(lam).tolist())
    generator = torch.Generator().manual_seed(0)

    def noise(number):
        return torch.randn(40_000, 1, generator=generator, dtype=torch.float64)

    x = sample(Consistency(), Known(gaussian_end), schedule, noise(-1), noise=noise)
    error = SPREAD / math.sqrt(2 * len(x))
    assert float(x.std()) == pytest.approx(SPREAD, abs=5 * error)
    assert float(x.mean()) == pytest.approx(0, abs=5 * SPREAD / math.sqrt(len(x)))
