"""Ancestral sampling."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, GaussianDiffusion, NoiseSchedule
from iddpm.sampling.noise import limited
from iddpm.sampling.sampler_loop import Step, level_of


@dataclass(frozen=True)
class DDPM:
    r"""Draw x_{t-1} from the reverse Gaussian (Ho et al. 2020, algorithm 2).

    .. math::

        x_{t-1} = \mu_\theta(x_t, t) + \sigma_t z, \qquad z \sim N(0, 1)

    The variance is that of the prediction: learned, fixed or analytic. A slope in the prediction
    shifts the mean by variance times slope (Dhariwal & Nichol 2021, algorithm 1).

    Attributes:
        last_noise: largest mean size, in levels of 8 bits, of the noise of step 1 where the
            variance is analytic; see :func:`~iddpm.sampling.noise.limited`.

    >>> import torch
    >>> from iddpm import DDPM, cosine, even_timesteps, sample
    >>> from iddpm.diffusion.prediction import from_x0
    >>> half = lambda x, level: from_x0(x, torch.full_like(x, 0.5), level)  # all data is 0.5
    >>> few = cosine(1000).respace(even_timesteps(1000, 4))
    >>> sample(DDPM(), half, few, torch.randn(1, 3))
    tensor([[0.5000, 0.5000, 0.5000]])
    """

    last_noise: float = 1.0

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
        t, level = level_of(schedule, i, x)
        prediction = denoise(x, level)
        diffusion = GaussianDiffusion(schedule, prediction.variance_kind)
        mean, log_variance = diffusion.p_posterior(prediction, x, t)
        if prediction.slope is not None:
            mean = mean + log_variance.exp() * prediction.slope
        if i == 0:
            return Step(mean, prediction)
        std = torch.exp(0.5 * log_variance)
        if prediction.variance_kind == "analytic":
            std = limited(std, i, self.last_noise)
        return Step(mean + std * draw(), prediction)
