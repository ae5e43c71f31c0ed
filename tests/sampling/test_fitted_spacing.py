"""Fitted timesteps: the dynamic programming against every path, the errors against formulas."""

import math
from itertools import combinations

import pytest
import torch

from iddpm.diffusion import cosine
from iddpm.sampling import SampleNoise
from iddpm.sampling.fitted_spacing import (
    LATER,
    LENGTH,
    FittedSteps,
    candidate_timesteps,
    shortest_path,
    step_errors,
)
from tests.sampling.test_few_steps import exact
from tests.sampling.test_gaussian_data import exact_denoiser


def cost_of(path, costs, later):
    """The cost of nodes from the noisiest to the data, the first step with weight 1."""
    return sum(
        later**number * float(costs[j, i])
        for number, (j, i) in enumerate(zip(path, [*path[1:], 0], strict=True))
    )


@pytest.mark.parametrize("later", [1.0, 1.3, 0.7])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_no_path_is_cheaper(count, later):
    start = 8
    costs = torch.rand(11, 11, generator=torch.Generator().manual_seed(count)).double()
    found = shortest_path(costs, count, start, later)
    assert len(found) == count
    assert found == sorted(set(found))
    assert found[-1] == start
    best = min(
        cost_of([start, *sorted(others, reverse=True)], costs, later)
        for others in combinations(range(1, start), count - 1)
    )
    assert cost_of(found[::-1], costs, later) == pytest.approx(best, rel=1e-12)


def test_the_errors_of_gaussian_data_are_those_of_its_trajectories():
    """y = m + sqrt((s^2 + sigma^2) / (s^2 + sigma_T^2)) (y_T - m) along the ODE."""
    m, s, schedule = 0.3, 0.5, cosine(1000)
    nodes = schedule.respace(candidate_timesteps(schedule, 200))
    x_T = torch.randn(8, 1, 4, generator=torch.Generator().manual_seed(0)).double()
    errors = step_errors(exact_denoiser(m, s), nodes, x_T)
    sigma = [0.0, *(-nodes.half_log_snr).exp().tolist()]
    y_T = x_T / float(nodes.alpha_bar[-1]) ** 0.5

    def along(k):
        return m + math.sqrt((s**2 + sigma[k] ** 2) / (s**2 + sigma[-1] ** 2)) * (y_T - m)

    for j, i in [(len(sigma) - 1, 60), (120, 3), (90, 0), (20, 19)]:
        slope = (along(j) - m) * sigma[j] / (s**2 + sigma[j] ** 2)
        end = along(j) + (sigma[i] - sigma[j]) * slope
        wanted = float((end - along(i)).square().mean().sqrt())
        # The last step of the trajectory returns the estimate of x0.
        assert float(errors[j, i]) == pytest.approx(wanted, rel=0.02, abs=2e-3), (j, i)
    assert torch.equal(errors.isfinite(), torch.ones_like(errors).tril(-1) > 0)


def fitted(data="wide"):
    schedule = cosine(1000)
    positions = candidate_timesteps(schedule)
    x_T = SampleNoise(0, (32, 1, 1)).initial().double()
    errors = step_errors(exact(data), schedule.respace(positions), x_T)
    return schedule, FittedSteps(torch.tensor(positions, dtype=torch.float64), errors)


def test_the_chosen_steps_have_the_least_cost_of_their_definition():
    schedule, steps = fitted()
    chosen = steps.timesteps(schedule, 3)
    positions = steps.positions.tolist()
    level = (-schedule.respace(positions).half_log_snr).tolist()
    level = [level[0] - math.log(2), *level]

    def cost(j, i):
        return float(steps.errors[j, i]) ** 2 + (LENGTH * (level[j] - level[i])) ** 2

    top = len(positions)
    best = min(
        (cost(top, b) + LATER * cost(b, a) + LATER**2 * cost(a, 0), [a, b, top])
        for a, b in combinations(range(1, top), 2)
    )[1]
    assert chosen == [positions[node - 1] for node in best]


def test_they_start_where_the_sampler_starts_and_refuse_what_is_not_there():
    schedule, steps = fitted()
    for sigma_max in (80.0, 30.0):
        respaced = schedule.respace(steps.timesteps(schedule, 6, sigma_max=sigma_max))
        assert len(respaced) == 6
        noisiest = math.exp(-float(respaced.half_log_snr[-1]))
        assert sigma_max / 2 < noisiest <= sigma_max * (1 + 1e-6)
    count = len(steps.positions)
    assert len(steps.timesteps(schedule, count)) == count
    with pytest.raises(ValueError, match=f"among {count} levels below sigma 80, and 60 steps"):
        steps.timesteps(schedule, 60)
    with pytest.raises(ValueError, match="among 0 levels"):
        steps.timesteps(schedule, 1, sigma_max=1e-6)


def test_trajectories_that_are_not_finite():
    def broken(x_t, level):
        prediction = exact_denoiser(0.0, 0.5)(x_t, level)
        return prediction.with_x0(prediction.x0 * math.nan, x_t, level)

    with pytest.raises(ValueError, match="not finite"):
        step_errors(broken, cosine(50).respace([3, 20, 40]), torch.ones(2, 1, 1))
