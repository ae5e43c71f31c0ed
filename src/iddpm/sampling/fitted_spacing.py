"""Timesteps fitted to a model: where its trajectories bend least (after Chen et al. 2024, GITS)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.sampling.ipndm import IPNDM
from iddpm.sampling.sampler_loop import trajectory
from iddpm.sampling.spacing import SIGMA_MAX, karras_timesteps, log_snr_timesteps

NODES = 48
"""Levels between which steps are chosen, at most: half even in log-SNR, half in sigma^(1/7)."""
LATER = 1.3
"""Weight of a step relative to the one before it: no later step repairs an error near the data."""
LENGTH = 0.1
"""Error, in units of the data, that a step of length 1 in half-log-SNR counts as at least.

Where trajectories are straight a single Euler step has no error, however long it is; samplers that
extrapolate from the steps before do have one."""


@dataclass(frozen=True, eq=False)
class FittedSteps:
    """Levels of a process and the errors of steps between any two of them.

    Attributes:
        positions: increasing timesteps of the trained process, float64 [K].
        errors: float64 [K + 1, K + 1], see :func:`step_errors`.
    """

    positions: Tensor
    errors: Tensor

    def most(self, schedule: NoiseSchedule, *, sigma_max: float = SIGMA_MAX) -> int:
        """Return the largest number of steps: the levels no noisier than ``sigma_max``."""
        sigma = (-schedule.respace(self.positions.tolist()).half_log_snr).exp()
        return int((sigma <= sigma_max * (1 + 1e-9)).sum())

    def timesteps(
        self, schedule: NoiseSchedule, count: int, *, sigma_max: float = SIGMA_MAX
    ) -> list[float]:
        """Return ``count`` timesteps of the trained process, for any sampler.

        The costs of the steps, errors^2 + (:data:`LENGTH` times the step's length in
        half-log-SNR)^2, are summed, each weighted by :data:`LATER` times the weight of the step
        before. The last step, to the data, counts as one down to half the cleanest level.

        Args:
            schedule: the trained process.
            count: number of steps.
            sigma_max: start no noisier than this.

        Raises:
            ValueError: more steps than levels, or a ``sigma_max`` below all of them.
        """
        positions = self.positions.tolist()
        sigma = (-schedule.respace(positions).half_log_snr).exp()
        start = self.most(schedule, sigma_max=sigma_max)
        if not 1 <= count <= start:
            raise ValueError(
                f"spacing=fitted chooses among {start} levels below sigma {sigma_max:g}, and "
                f"{count} steps were requested: use fewer steps, or another spacing"
            )
        level = torch.cat([sigma[:1] / 2, sigma]).log()
        costs = self.errors**2 + (LENGTH * (level[:, None] - level)) ** 2
        return [positions[node - 1] for node in shortest_path(costs, count, start)]


def candidate_timesteps(schedule: NoiseSchedule, nodes: int = NODES) -> list[float]:
    """Return the increasing timesteps among which :class:`FittedSteps` chooses."""
    half = min(nodes // 2, len(schedule))
    kept: list[float] = []
    for position in sorted({*log_snr_timesteps(schedule, half), *karras_timesteps(schedule, half)}):
        if not kept or position - kept[-1] > 1e-6:
            kept.append(position)
    return kept


def step_errors(
    denoise: Denoise, nodes: NoiseSchedule, x_T: Tensor, *, self_condition: bool = False
) -> Tensor:
    """Return the error of one Euler step between any two levels of some trajectories.

    Args:
        denoise: the model, its conditioning included.
        nodes: the levels, K of them.
        x_T: standard normal starts, [N, C, *spatial].
        self_condition: as for :func:`~iddpm.sampling.trajectory`.

    Returns:
        Float64 [K + 1, K + 1]: entry [j, i] with j > i is the root mean square distance, in
        x / sqrt(alpha_bar), between the trajectory at node i and the straight step to it along the
        noise estimate at node j. Node 0 is the data, node k the level k - 1 of ``nodes``. All
        other entries are infinite. The trajectory is that of the multistep method of order 4
        through all levels.

    Raises:
        ValueError: the trajectories are not finite.
    """
    signal = nodes.alpha_bar.sqrt().clamp(min=1e-12).tolist()
    sigma = (-nodes.half_log_snr).exp().clamp(max=1e12).tolist()
    states, slopes, x = [], [], x_T
    solver = IPNDM(4, variable_step=True)
    walk = trajectory(solver, denoise, nodes, x_T, self_condition=self_condition, levels="mean")
    for state in walk:
        y = x / signal[state.index]
        states.append(y)
        slopes.append((y - state.x0) / sigma[state.index])
        x = state.x
    if not x.isfinite().all():
        raise ValueError("the model's trajectories are not finite, so that no steps fit them")
    states = [x, *reversed(states)]
    slopes.reverse()
    levels = [0.0, *sigma]
    errors = torch.full((len(states), len(states)), torch.inf, dtype=torch.float64)
    for j in range(1, len(states)):
        for i in range(j):
            end = states[j] + (levels[i] - levels[j]) * slopes[j - 1]
            errors[j, i] = (end - states[i]).square().mean().double().sqrt()
    return errors


def shortest_path(costs: Tensor, count: int, start: int, later: float = LATER) -> list[int]:
    """Return the nodes of ``count`` steps from ``start`` to node 0 with the least cost.

    Args:
        costs: [K + 1, K + 1], entry [j, i] of the step from j down to i.
        count: number of steps, 1 to ``start``.
        start: the node of the first step.
        later: weight of each step relative to the one before.

    Returns:
        ``count`` increasing nodes, the last of them ``start``.
    """
    allowed = torch.ones_like(costs, dtype=torch.bool).tril(-1)
    costs = torch.where(allowed, costs, torch.inf)
    least = costs[:, 0]  # from every node, with one step left
    chosen = []
    for _ in range(count - 1):
        best = (costs + later * least).min(dim=1)
        least = best.values
        chosen.append(best.indices)
    path = [start]
    for step in reversed(chosen):
        path.append(int(step[path[-1]]))
    return path[::-1]
