"""Samples of a model of mean velocities."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling.sampler_loop import Step, level_of


@dataclass(frozen=True)
class MeanFlow:
    """Go from level to level by the mean velocity between them (Geng et al. 2025, equation 12).

    With the angle phi = arctan(sigma) of the level, the angle psi of the next one, or 0 for the
    data, and u the v of the model, conditioned on ``end``, psi in units of a right angle:
    x_psi = x_phi - (phi - psi) u. No noise is drawn.
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
        _, level = level_of(schedule, i, x)
        phi = level.alpha_bar.sqrt().acos()
        psi = torch.zeros_like(phi)
        if i > 0:
            psi = level_of(schedule, i - 1, x)[1].alpha_bar.sqrt().acos()
        prediction = denoise(x, level, end=(psi / (math.pi / 2)).to(x))
        signal, noise = broadcast(level.alpha_bar.sqrt(), x), (1 - level.alpha_bar).sqrt()
        u = signal * prediction.eps - broadcast(noise, x) * prediction.x0
        return Step(x - broadcast(phi - psi, x) * u, prediction)
