"""DPM-Solver++: multistep solvers on the data estimate, of the ODE and of the SDE."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.sampling.ddim import DDIM
from iddpm.sampling.sampler_loop import Step, is_pure_noise


@dataclass(frozen=True)
class DPMSolverPP:
    """Extrapolate the data estimates of the last steps in log-SNR (Lu et al. 2022b, algorithm 2).

    Order 1 is DDIM; higher orders add differences of estimates. The first steps have too
    few estimates, and the steps near the data are too long in log-SNR to extrapolate over: the
    one that ends at step 0 has order 2 at most and the last, to the data, returns the estimate of
    x0. A step from pure noise, at infinite log-SNR, has order 1 and is not kept in the history.

    Attributes:
        order: 2 (2M) or 3 (3M, with the second difference weighted in full: the authors' code, and
            others after it, give it half, which makes their 3M a solver of order 2).
        stochastic: solve the reverse SDE instead of the ODE (2M SDE), with fresh noise every step;
            order 2 only.

    On standard normal data the exact solution leaves the state as it is:

    >>> import torch
    >>> from iddpm import DPMSolverPP, Prediction, cosine, log_snr_timesteps, sample
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> few = cosine(1000).respace(log_snr_timesteps(cosine(1000), 100))
    >>> round(float(sample(DPMSolverPP(), normal, few, torch.ones(1, 1))), 2)
    1.0
    """

    order: int = 2
    stochastic: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError for an order that does not exist."""
        if self.order not in ((2,) if self.stochastic else (2, 3)):
            known = "2 for the SDE" if self.stochastic else "2 or 3"
            raise ValueError(f"order={self.order} must be {known}")

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: tuple[Tensor, ...] | None = None,
    ) -> Step:
        """Take one step; ``memory`` holds the data estimates of the steps before, newest first."""
        # Order 1 of the ODE is DDIM; of the SDE, DDIM with eta = 1.
        first = DDIM(eta=1.0 if self.stochastic else 0.0).step(denoise, x, i, schedule, draw)
        if is_pure_noise(schedule, i):
            return first
        history = (first.prediction.x0, *(memory or ()))[: self.order]
        used = history[: i + 1]
        if len(used) == 1:
            return Step(first.x, first.prediction, history)
        lam = schedule.half_log_snr[i - 1 : i + len(used)].tolist()
        h = lam[0] - lam[1]
        # The coefficient of x0 at order 1: alpha_t (1 - e^-h), for the SDE alpha_t (1 - e^-2h).
        gain = -math.sqrt(schedule.alpha_bar[i - 1]) * math.expm1(-2 * h if self.stochastic else -h)
        ratios = [(node - lam[1]) / h for node in lam[2:]]
        change = differences(used[0], used[1:], ratios, h)
        return Step(first.x + gain * change, first.prediction, history)


def differences(x0: Tensor, others: Sequence[Tensor], ratios: Sequence[float], h: float) -> Any:
    """Return the correction of ``x0`` for a step along a polynomial through all estimates.

    A step of length ``h`` in lambda multiplies the estimate at its start by 1 - e^-h. The estimates
    ``others`` lie at ``ratios`` times the step from there: below 0 for those of steps before, 1 for
    one at the end. The weights are exact for polynomials in lambda; for a single estimate the
    paper's 1/2 stands in for them, which keeps the order.

    Source: Zhao et al. 2023, theorem 3.1 with B2(h) = e^h - 1, in terms of x0 (appendix A).
    """
    if len(others) <= 1:
        weights = [0.5] * len(others)
    else:
        mean = []  # of (u / h)^n over the step, weighted by e^u; by parts from 1 - e^-h
        moment = scale = -math.expm1(-h)
        for n in range(1, len(others) + 1):
            moment = 1 - n / h * moment
            mean.append(moment / scale)
        r = torch.tensor(ratios, dtype=torch.float64)
        powers = torch.stack([r**n for n in range(len(others))])
        weights = torch.linalg.solve(powers, torch.tensor(mean, dtype=torch.float64)).tolist()
    return sum(
        weight / ratio * (other - x0)
        for weight, ratio, other in zip(weights, ratios, others, strict=True)
    )
