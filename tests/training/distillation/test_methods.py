"""The other methods of distillation against closed forms, on Gaussian data of known paths."""

import math

import pytest
import torch

from iddpm.builders.few_steps import build_distillation_loss
from iddpm.config.distillation import DistillationConfig
from iddpm.diffusion import GaussianDiffusion, Prediction
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling import sample
from iddpm.sampling.mean_velocity import MeanFlow
from iddpm.training.distillation.consistency import ConsistencyTimesteps, distance
from iddpm.training.distillation.continuous import SMALLEST, continuous
from iddpm.training.distillation.derivative import along_path, velocity
from iddpm.training.distillation.mean_flow import mean_flow
from iddpm.training.distillation.mid_training import ListedTimesteps, Trajectories, mid_training
from iddpm.training.step import ScheduledLoss
from tests.training.distillation.test_consistency import (
    COSINE,
    SPREAD,
    Known,
    batch,
    gaussian_end,
    gaussian_mean,
    sigma_of,
)

RANGE = ConsistencyTimesteps(COSINE, -1.1, 2.0, 80.0)


def drawn(count=512, dims=3):
    data, noise, uniform = batch(count, dims)
    return SPREAD * data, noise, RANGE.sample(uniform).t


def test_the_pseudo_huber_distance_is_that_of_its_formula():
    x = torch.tensor([[0.0, 3.0, 4.0, 0.0], [0.0, 0.3, 0.4, 0.0]])
    assert distance(x, torch.zeros(2, 4)).tolist() == pytest.approx([5.0, 0.5])
    c = 0.01 * 2  # four values
    wanted = [math.sqrt(d**2 + c**2) - c for d in (5.0, 0.5)]
    assert distance(x, torch.zeros(2, 4), 0.01).tolist() == pytest.approx(wanted, rel=1e-5)


def test_stages_increase_the_divisor_in_equal_parts_of_the_training():
    made = DistillationConfig(weights="w", divisor=2, stages=4)
    assert [made.divisor_at(step, 40) for step in (0, 9, 10, 29, 30, 39, 99)] == [
        2, 2, 4, 8, 16, 16, 16,
    ]  # fmt: skip
    loss = build_distillation_loss(made, None, lambda: 40)
    assert isinstance(loss, ScheduledLoss)
    assert loss.at(20).keywords == {"divisor": 8, "huber": 0}
    assert made.largest_divisor == 16


class ExactPaths:
    """The paths of the Gaussian data: every state is the noise times the spread of its level."""

    positions = COSINE.position_of(-torch.tensor([0.2, 1.0, 80.0], dtype=torch.float64).log())

    def __init__(self):
        self.called = []

    def __call__(self, noise, **conditioning):
        self.called.append((noise, conditioning))
        level = COSINE.at(self.positions)
        spread = (SPREAD**2 * level.alpha_bar + 1 - level.alpha_bar).sqrt()
        start = noise / spread[-1]
        return Trajectories(spread[:, None, None] * start, SPREAD * start)


def test_mid_training_has_no_loss_at_the_known_function_and_nowhere_else():
    data, noise, uniform = batch(50, 3)
    t = ListedTimesteps(ExactPaths.positions.tolist()).sample(uniform).t
    assert set(t.tolist()) == set(ExactPaths.positions.tolist())
    losses = [
        mid_training(Known(function), SPREAD * data, t, noise, teacher=ExactPaths()).loss
        for function in (gaussian_end, gaussian_mean)
    ]
    assert float(losses[0].max()) < 1e-6
    assert float(losses[1][t > t.min()].min()) > 1e-3


def test_mid_training_draws_a_trajectory_for_as_many_items_as_it_has_points():
    data, noise, uniform = batch(8, 3)
    t, paths, labels = RANGE.sample(uniform).t, ExactPaths(), torch.arange(8)
    seen = []

    def function(x, sigma):
        seen.append(len(x))
        return x

    model = Known(function)
    model.__class__ = type("Recording", (Known,), {"__call__": recording(seen)})
    mid_training(model, data, t, noise, teacher=paths, y=labels)
    ((start, conditioning),) = paths.called
    assert conditioning["y"].tolist() == [0, 3, 6]  # eight items in three groups
    assert torch.equal(start, noise[[0, 3, 6]])
    assert seen[0].tolist() == [0, 0, 0, 3, 3, 3, 6, 6]


def recording(seen):
    def call(self, x_t, level, /, **conditioning):
        seen.append(conditioning["y"])
        return Known.__call__(self, x_t, level)

    return call


def test_the_derivative_along_a_path_is_that_of_autograd():
    data, noise, t = drawn(64)
    level = COSINE.at(t)
    sigma, slope = sigma_of(level), torch.randn_like(data)

    def function(x, at):
        return torch.tanh(x * broadcast(sigma_of(at), x).log() / 3)

    x_t = GaussianDiffusion(COSINE, "fixed_small").q_sample(data, t, noise)
    found = along_path(function, Known(gaussian_end), x_t, sigma, slope)

    def moved(u):  # ln sigma
        x = x_t + (u.exp().atan() - sigma.atan())[:, None] * slope
        return torch.tanh(x * u[:, None] / 3)

    _, wanted = torch.func.jvp(moved, (sigma.log(),), (torch.ones(64, dtype=torch.float64),))
    away = (sigma > 0.02) & (sigma < 78)  # from the ends, where the quotient is one-sided
    torch.testing.assert_close(found[away], wanted[away], rtol=3e-3, atol=1e-3)


def test_the_known_function_has_no_tangent_and_others_follow_theirs():
    data, noise, t = drawn()
    teacher = Known(gaussian_mean)
    away = sigma_of(COSINE.at(t)) < 78
    known = continuous(Known(gaussian_end), data, t, noise, teacher=teacher).loss[away]
    # A normalized tangent of 0 gives 0; the quotient's error is divided by the 0.1 beside it.
    assert float(known.max()) < (0.01 / SMALLEST) ** 2
    other = continuous(teacher, data, t, noise, teacher=teacher).loss
    assert float(other[(sigma_of(COSINE.at(t)) > 0.2) & away].min()) > 10 * float(known.max())


def test_the_tangent_of_a_linear_model_is_that_of_the_formula():
    data, noise, t = drawn(256)
    inside = (sigma_of(COSINE.at(t)) > 0.1) & (sigma_of(COSINE.at(t)) < 70)
    data, noise, t = data[inside], noise[inside], t[inside]
    slope = torch.zeros((), dtype=torch.float64, requires_grad=True)
    teacher = Known(gaussian_mean)
    model = Known(lambda x, s: (0.3 + slope) * x)
    continuous(model, data, t, noise, teacher=teacher, progress=1.0).loss.sum().backward()
    level = COSINE.at(t)
    sigma = sigma_of(level)
    x = data + sigma[:, None] * noise
    # D = 0.3 x; along the path dx / d sigma = (x - mean) / sigma, so dD / d phi follows.
    change = 0.3 * (x - gaussian_mean(x, sigma[:, None])) / sigma[:, None]
    tangent = change * (1 + sigma[:, None] ** 2) / (1 + sigma[:, None] ** 2).sqrt()
    norm = tangent.square().mean(dim=1, keepdim=True).sqrt()
    tangent = tangent / (norm + SMALLEST)
    by_slope = -x * (1 + 1 / sigma[:, None] ** 2).sqrt()  # of v = (x_t cos - D) / sin
    wanted = (-2 * tangent * by_slope).mean(dim=1).sum()
    assert float(slope.grad) == pytest.approx(float(wanted), rel=0.01)


def spread_at(phi):
    return (SPREAD**2 * phi.cos() ** 2 + phi.sin() ** 2).sqrt()


class MeanVelocity:
    """The mean velocity of the Gaussian data's paths, as v of a model; wrong by a factor."""

    prediction_type = None

    def __init__(self, factor=1.0):
        self.factor = factor
        self.diffusion = GaussianDiffusion(COSINE, "fixed_small")

    def __call__(self, x_t, level, /, end, **conditioning):
        phi, psi = level.alpha_bar.sqrt().acos(), end.double() * math.pi / 2
        apart = phi - psi
        rate = SPREAD**2 * -phi.cos() * phi.sin() + phi.sin() * phi.cos()  # spread's, times it
        instant = rate / spread_at(phi) ** 2
        mean = (1 - spread_at(psi) / spread_at(phi)) / apart.clamp(min=1e-9)
        u = self.factor * torch.where(apart < 1e-6, instant, mean)[:, None] * x_t
        signal, noise = phi.cos()[:, None], phi.sin()[:, None]
        return Prediction(signal * x_t - noise * u, noise * x_t + signal * u)


def test_the_known_mean_velocity_is_a_solution_and_samples_the_data_in_one_step():
    data, noise, t = drawn()
    teacher = Known(gaussian_mean)
    torch.manual_seed(0)
    errors = [
        mean_flow(MeanVelocity(factor), data, t, noise, teacher=teacher).mse.sqrt().median()
        for factor in (1.0, 1.1)
    ]
    assert float(errors[0]) < 0.02 * float(errors[1])
    x_T = torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for sigmas in ([80.0], [0.8, 80.0]):
        lam = -torch.tensor(sigmas, dtype=torch.float64).log()
        schedule = COSINE.respace(COSINE.position_of(lam).tolist())
        x = sample(MeanFlow(), MeanVelocity(), schedule, x_T)
        torch.testing.assert_close(x, SPREAD * x_T, rtol=1e-3, atol=1e-6)


def test_the_velocity_is_the_derivative_by_the_angle():
    data, noise, t = drawn(8)
    level = COSINE.at(t)
    found = velocity(Prediction(data, noise), level)
    phi = level.alpha_bar.sqrt().acos()[:, None]
    _, wanted = torch.func.jvp(
        lambda p: p.cos() * data + p.sin() * noise, (phi,), (torch.ones_like(phi),)
    )
    torch.testing.assert_close(found, wanted)
