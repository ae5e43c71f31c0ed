"""Multistep consistency sampling: fresh noise at each level."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from iddpm.diffusion import Denoise, NoiseSchedule
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling.sampler_loop import Step, level_of


@dataclass(frozen=True)
class Consistency:
    """Estimate the data and add fresh noise of the next level (Song et al. 2023, algorithm 1).

    It is for models whose estimate of x0 is a sample, such as those that ``iddpm distill`` makes.
    A denoiser's estimate is a mean, and its samples would be too smooth.

    >>> import torch
    >>> from iddpm import Consistency, cosine, even_timesteps, sample
    >>> from iddpm.diffusion.prediction import from_x0
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)  # all data is 0.5
    >>> few = cosine(1000).respace(even_timesteps(1000, 4))
    >>> sample(Consistency(), half, few, torch.randn(1, 3))
    tensor([[0.5000, 0.5000, 0.5000]])
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
        prediction = denoise(x, level)
        if i == 0:
            return Step(prediction.x0, prediction)
        _, lower = level_of(schedule, i - 1, x)
        signal, amount = broadcast(lower.alpha_bar.sqrt(), x), (1 - lower.alpha_bar).sqrt()
        return Step(signal * prediction.x0 + broadcast(amount, x) * draw(), prediction)
