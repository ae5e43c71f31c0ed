"""Orders of convergence on data whose denoiser and probability-flow ODE are known in closed form.

The ODE carries quantiles along, so in one dimension its solution keeps the distribution function:
exact at every level, no fine solution needed. All trajectories stop at an interior noise level; the
jump from there to the data is no step of the ODE. Nothing here is Monte Carlo.

A multistep solver's first step is DDIM's, whose single error is of second order whatever the order
of the rest. So each is measured twice: from its own start, and with the first steps put on the
exact solution, which shows the order of its formula.
"""

import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch

from iddpm.diffusion import NoiseSchedule, Prediction
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling import DDIM
from iddpm.sampling.dpm_solver import DPMSolverPP
from iddpm.sampling.er_sde import ERSDE
from iddpm.sampling.heun import Heun
from iddpm.sampling.ipndm import IPNDM
from iddpm.sampling.unipc import UniPC
from tests.sampling.test_gaussian_data import exact_denoiser, moments, step_of

MEAN, SPREAD = 0.3, 0.5  # of the Gaussian data
STARTS = torch.tensor([-1.6, -0.7, -0.25, 0.4, 1.1], dtype=torch.float64).reshape(-1, 1, 1)
SPACINGS = ["log-SNR", "karras"]


def grid(count, spacing, noisiest=-0.5, cleanest=2.0):
    """A schedule of ``count`` steps between two half-log-SNRs."""
    u = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    if spacing == "log-SNR":
        lam = cleanest + u * (noisiest - cleanest)
    else:
        rho = {"karras": 7, "sigma": 1}[spacing]
        low, high = math.exp(-cleanest / rho), math.exp(-noisiest / rho)
        lam = -rho * torch.log(low + u * (high - low))
    return NoiseSchedule(torch.sigmoid(2 * lam), torch.arange(count + 1), torch.arange(count + 1.0))


def two_points(x_t, level):
    """The exact denoiser of data that is -1 or +1."""
    alpha_bar = broadcast(level.alpha_bar, x_t)
    x0 = torch.tanh(alpha_bar.sqrt() * x_t / (1 - alpha_bar))
    return Prediction(x0, (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt())


DENOISERS = {"two points": two_points, "gaussian": exact_denoiser(MEAN, SPREAD)}


@cache
def solution(data, count, spacing):
    """The exact states at every level of the grid, [levels, *STARTS.shape]."""
    alpha_bar = grid(count, spacing).alpha_bar.reshape(-1, 1, 1, 1)
    signal, variance = alpha_bar.sqrt(), 1 - alpha_bar
    if data == "gaussian":
        spread = (alpha_bar * SPREAD**2 + variance).sqrt()
        return signal * MEAN + spread / spread[-1] * (STARTS - signal[-1] * MEAN)

    def quantile(x, signal, variance):
        return (
            torch.special.ndtr((x - signal) / variance.sqrt())
            + torch.special.ndtr((x + signal) / variance.sqrt())
        ) / 2

    wanted = quantile(STARTS, signal[-1], variance[-1])
    low = torch.full((count + 1, *STARTS.shape), -8.0, dtype=torch.float64)
    high = -low
    for _ in range(60):  # bisection
        middle = (low + high) / 2
        below = quantile(middle, signal, variance) < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2


def final_error(sampler, data, count, spacing, exact_steps):
    """Largest error at the cleanest level when so many steps start on the exact solution."""
    schedule, exact = grid(count, spacing), solution(data, count, spacing)
    x, memory = exact[count], None
    for taken, i in enumerate(range(count, 0, -1)):
        if 0 < taken <= exact_steps:
            x = exact[i]
            if isinstance(sampler, UniPC):
                memory = memory._replace(x=exact[i + 1])
        x, _, memory = sampler.step(DENOISERS[data], x, i, schedule, forbidden, memory)
    if isinstance(sampler, UniPC):  # a state is corrected when the model is evaluated there
        x = sampler.step(DENOISERS[data], x, 0, schedule, forbidden, memory).memory.x
    return float((x - exact[0]).abs().max())


def forbidden():
    raise AssertionError("a deterministic sampler drew noise")


ORDERS = {  # of the formula, and from the sampler's own start
    "ddim": (DDIM(), 1, 1),
    "heun": (Heun(), 2, 2),
    "ipndm 1": (IPNDM(1), 1, 1),
    "ipndm 2": (IPNDM(2), 2, 2),
    "ipndm 3": (IPNDM(3), 2, 2),  # weights of equal steps: no more than 2 on these grids
    "ipndm 4": (IPNDM(4), 2, 2),
    "ipndm 2 variable": (IPNDM(2, variable_step=True), 2, 2),
    "ipndm 3 variable": (IPNDM(3, variable_step=True), 3, 2),
    "ipndm 4 variable": (IPNDM(4, variable_step=True), 4, 2),
    "dpm-solver++ 2m": (DPMSolverPP(2), 2, 2),
    "dpm-solver++ 3m": (DPMSolverPP(3), 3, 2),
    "unipc 2": (UniPC(2), 3, 3),  # the corrector adds one
    "unipc 3": (UniPC(3), 4, 3),
    # without noise, where the extended SDE is the ODE
    "er-sde 1": (ERSDE(1, phi=lambda sigma: sigma), 1, 1),
    "er-sde 2": (ERSDE(2, phi=lambda sigma: sigma), 2, 2),
    "er-sde 3": (ERSDE(3, phi=lambda sigma: sigma), 3, 2),
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", ORDERS)
def test_orders_on_two_points(name, spacing):
    sampler, of_formula, of_walk = ORDERS[name]
    for exact_steps, order in [(3, of_formula), (0, of_walk)]:
        coarse, fine = (
            final_error(sampler, "two points", n, spacing, exact_steps) for n in (100, 200)
        )
        slope = math.log2(coarse / fine)
        # Orders are whole numbers; at these steps the slopes are within 0.24 of them.
        assert slope == pytest.approx(order, abs=0.3), (exact_steps, coarse, fine)


@pytest.mark.parametrize("name", ORDERS)
def test_orders_on_a_gaussian(name):
    sampler, of_formula, _ = ORDERS[name]
    coarse, fine = (final_error(sampler, "gaussian", n, "karras", 3) for n in (100, 200))
    assert math.log2(coarse / fine) > of_formula - 0.15, (coarse, fine)


@pytest.mark.parametrize("order", [2, 3, 4])
def test_ipndm_has_its_order_on_equal_steps_in_sigma(order):
    """There the published weights are the exact ones."""
    published, exact = (
        final_error(IPNDM(order, variable), "two points", 100, "sigma", 3)
        for variable in (False, True)
    )
    assert published == pytest.approx(exact, rel=1e-6)
    coarse, fine = (final_error(IPNDM(order), "gaussian", n, "sigma", 3) for n in (800, 1600))
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("count", [10, 20])
def test_higher_orders_are_nearer_at_few_steps(count):
    """What the orders are for, from the samplers' own start."""
    errors = {
        name: final_error(sampler, "two points", count, "karras", 0)
        for name, (sampler, _, _) in ORDERS.items()
    }
    for name in errors.keys() - {"ddim", "ipndm 1", "er-sde 1"}:
        assert errors[name] < errors["ddim"] / 2, (name, errors)


# ----------------------------------------------------------------------------------- the SDE


def sde_step_by_hand(schedule, i, first):
    """Factors of x, of the two estimates of x0 and of the noise (Lu et al. 2022b, 2M SDE)."""
    now, before = float(schedule.alpha_bar[i]), float(schedule.alpha_bar[i - 1])
    lam, lam_t = (0.5 * math.log(a / (1 - a)) for a in (now, before))
    h = lam_t - lam
    of_x = math.sqrt((1 - before) / (1 - now)) * math.exp(-h)
    of_x0 = math.sqrt(before) * (1 - math.exp(-2 * h))
    gain = math.sqrt((1 - before) * (1 - math.exp(-2 * h)))
    if first:
        return of_x, of_x0, 0.0, gain
    above = float(schedule.alpha_bar[i + 1])
    r = (lam - 0.5 * math.log(above / (1 - above))) / h
    return of_x, of_x0 * (1 + 1 / (2 * r)), -of_x0 / (2 * r), gain


def regression(alpha_bar):
    factor = math.sqrt(alpha_bar) * SPREAD**2 / (alpha_bar * SPREAD**2 + 1 - alpha_bar)
    return MEAN - factor * math.sqrt(alpha_bar) * MEAN, factor


def sde_moments(count, spacing):
    """Mean and variance at the cleanest level, and the true ones; every step held to its formula.

    The state is (x, last estimate of x0), affine in itself and in fresh noise, so that its mean
    and covariance follow exactly.
    """
    schedule, sampler = grid(count, spacing), DPMSolverPP(2, stochastic=True)
    denoise = DENOISERS["gaussian"]
    start = float(schedule.alpha_bar[-1])
    mean = torch.tensor([math.sqrt(start) * MEAN, 0.0], dtype=torch.float64)
    covariance = torch.zeros(2, 2, dtype=torch.float64)
    covariance[0, 0] = start * SPREAD**2 + 1 - start
    for i in range(count, 0, -1):
        first = i == count

        def at(x, last, z, i=i, first=first):
            x, last, z = (torch.full((1, 1, 1), v, dtype=torch.float64) for v in (x, last, z))
            memory = None if first else (last,)
            step = sampler.step(denoise, x, i, schedule, lambda: z, memory)
            return torch.stack([step.x.flatten()[0], step.memory[0].flatten()[0]])

        offset = at(0.0, 0.0, 0.0)
        columns = [at(*one) - offset for one in torch.eye(3).tolist()]
        matrix, noise = torch.stack(columns[:2], 1), columns[2]
        of_x, of_now, of_last, gain = sde_step_by_hand(schedule, i, first)
        constant, factor = regression(float(schedule.alpha_bar[i]))
        by_hand = [[of_x + of_now * factor, of_last], [factor, 0.0]]
        assert torch.allclose(matrix, torch.tensor(by_hand, dtype=torch.float64), atol=1e-9)
        assert offset.tolist() == pytest.approx([of_now * constant, constant], abs=1e-9)
        assert noise.tolist() == pytest.approx([gain, 0.0], abs=1e-12)
        mean = matrix @ mean + offset
        covariance = matrix @ covariance @ matrix.T + noise[:, None] * noise
    end = float(schedule.alpha_bar[0])
    true = math.sqrt(end) * MEAN, end * SPREAD**2 + 1 - end
    return (float(mean[0]), float(covariance[0, 0])), true


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_moments_of_the_sde_solver_converge(spacing):
    errors = {}
    for n in (50, 100, 200):
        (mean, variance), (true_mean, true_variance) = sde_moments(n, spacing)
        assert mean == pytest.approx(true_mean, abs=1e-12)  # exact from the true start
        errors[n] = abs(variance / true_variance - 1)
    assert errors[200] < 1e-4
    for n in (50, 100):
        assert math.log2(errors[n] / errors[2 * n]) == pytest.approx(2, abs=0.08), errors


def test_the_first_step_of_the_sde_is_ddpm_and_of_the_ode_ddim():
    schedule, denoise = grid(7, "karras"), DENOISERS["gaussian"]
    for sampler, ddim in [
        (DPMSolverPP(2, stochastic=True), DDIM(1.0)),
        (DPMSolverPP(2), DDIM()),
        (DPMSolverPP(3), DDIM()),
        (UniPC(3), DDIM()),
        (IPNDM(4), DDIM()),
    ]:
        ours = step_of(sampler_without_memory(sampler), denoise, schedule, 4)
        assert ours == pytest.approx(step_of(ddim, denoise, schedule, 4), rel=1e-12, abs=1e-13)
    one_step = moments(IPNDM(1), denoise, schedule)
    assert one_step == pytest.approx(moments(DDIM(), denoise, schedule), rel=1e-12)


def sampler_without_memory(sampler):
    class First:
        def step(self, denoise, x, i, schedule, draw):
            return sampler.step(denoise, x, i, schedule, draw, None)

    return First()


def test_the_documented_orders_are_those_asserted_here():
    text = (Path(__file__).parents[2] / "docs/sampling.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| (\d) \| (\d) \|$", text, flags=re.MULTILINE)
    documented = {name: (int(a), int(b)) for name, a, b in rows}
    assert documented == {name: (a, b) for name, (_, a, b) in ORDERS.items()}
