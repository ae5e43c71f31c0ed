"""Adams-Bashforth on the noise estimate: one evaluation a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.sampling.ddim import DDIM
from iddpm.sampling.heun import euler_scale
from iddpm.sampling.sampler_loop import Step, is_pure_noise


@dataclass(frozen=True)
class IPNDM:
    """Extrapolate the noise estimates of the last steps (Zhang & Chen 2023).

    In sigma, where the ODE is dy / dsigma = eps (see :class:`~iddpm.sampling.heun.Heun`), a step
    follows a weighted mean of the last ``order`` estimates of eps: Adams-Bashforth. The first
    steps have fewer estimates and a lower order, the very first is DDIM's; the last step, to the
    data, returns the estimate of x0. A step from pure noise, at infinite sigma, is not kept in the
    history.

    Attributes:
        order: estimates in use, 1 (DDIM) to 4.
        variable_step: False for the published iPNDM, whose weights (Liu et al. 2022) are those of
            equal steps in sigma whatever the steps are: on other grids its order is 2 at most.
            True for the weights that are exact for the steps taken (rhoAB-DEIS).

    On standard normal data the exact solution leaves the state as it is:

    >>> import torch
    >>> from iddpm import IPNDM, Prediction, cosine, log_snr_timesteps, sample
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> few = cosine(1000).respace(log_snr_timesteps(cosine(1000), 100))
    >>> round(float(sample(IPNDM(), normal, few, torch.ones(1, 1))), 2)
    1.0
    """

    order: int = 4
    variable_step: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for an order without weights."""
        if self.order not in (1, 2, 3, 4):
            raise ValueError(f"order={self.order} must be 1, 2, 3 or 4")

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: tuple[Tensor, ...] | None = None,
    ) -> Step:
        """Take one step; ``memory`` holds the noise estimates of the steps before, newest first."""
        euler = DDIM().step(denoise, x, i, schedule, draw)
        if is_pure_noise(schedule, i):
            return euler
        history = (euler.prediction.eps, *(memory or ()))[: self.order]
        if i == 0:
            return Step(euler.x, euler.prediction, history)
        weights = self._weights(schedule, i, len(history))
        # The weights sum to 1, so that the step differs from Euler's by differences of estimates.
        change: Any = sum(
            weight * (eps - history[0])
            for weight, eps in zip(weights[1:], history[1:], strict=True)
        )
        return Step(euler.x + euler_scale(schedule, i) * change, euler.prediction, history)

    def _weights(self, schedule: NoiseSchedule, i: int, count: int) -> list[float]:
        """Return the weights, newest first, that integrate polynomials in sigma exactly."""
        nodes = -torch.arange(count, dtype=torch.float64)  # in units of the step, from its start
        if self.variable_step:
            sigma = (-schedule.half_log_snr[i - 1 : i + count]).exp()
            nodes = (sigma[1:] - sigma[1]) / (sigma[0] - sigma[1])
        power = torch.arange(count, dtype=torch.float64)
        # sum_j w_j u_j^n = the integral of u^n over the step, 1 / (n + 1)
        weights = torch.linalg.solve(nodes[None] ** power[:, None], 1 / (power + 1))
        return [float(weight) for weight in weights]
