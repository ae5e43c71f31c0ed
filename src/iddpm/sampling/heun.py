"""Heun's method: two evaluations a step, second order."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.sampling.ddim import DDIM
from iddpm.sampling.sampler_loop import Step, is_pure_noise, level_of


@dataclass(frozen=True)
class Heun:
    """Average the slope at both ends of a step (Karras et al. 2022, algorithm 1).

    With y = x / sqrt(alpha_bar) and sigma = sqrt((1 - alpha_bar) / alpha_bar) the probability-flow
    ODE of a variance-preserving process is dy / dsigma = eps, and its Euler step is DDIM's. Every
    step but the last evaluates the model twice: N steps cost 2 N - 1 evaluations.

    Do not use it for few steps or from the noisiest steps of the cosine schedule: where sigma
    decreases by a large factor, as there from 2e4, a step multiplies the difference of the slopes
    by the same factor. From pure noise, where sigma is infinite, the step is Euler's.

    On standard normal data the exact solution leaves the state as it is:

    >>> import torch
    >>> from iddpm import Heun, Prediction, cosine, log_snr_timesteps, sample
    >>> normal = lambda x, l: Prediction(l.alpha_bar.sqrt() * x, (1 - l.alpha_bar).sqrt() * x)
    >>> few = cosine(1000).respace(log_snr_timesteps(cosine(1000), 100))
    >>> round(float(sample(Heun(), normal, few, torch.ones(1, 1))), 2)
    1.0
    """

    def step(
        self,
        denoise: Denoise,
        x: Tensor,
        i: int,
        schedule: NoiseSchedule,
        draw: Callable[[], Tensor],
        memory: Any = None,
    ) -> Step:
        """Take one step; see :class:`~iddpm.sampling.sampler_loop.Sampler`."""
        euler = DDIM().step(denoise, x, i, schedule, draw)  # lines 4 and 5
        if i == 0 or is_pure_noise(schedule, i):  # at the data there is no slope (line 6)
            return euler
        _, level = level_of(schedule, i - 1, x)
        change = denoise(euler.x, level).eps - euler.prediction.eps  # line 7
        return Step(euler.x + 0.5 * euler_scale(schedule, i) * change, euler.prediction)  # line 8


def euler_scale(schedule: NoiseSchedule, i: int) -> float:
    """Return the change of x in step ``i`` per unit of slope dy / dsigma."""
    sigma, sigma_next = (-schedule.half_log_snr[[i, i - 1]]).exp().tolist()
    return math.sqrt(schedule.alpha_bar[i - 1]) * float(sigma_next - sigma)
