"""What consistency methods share: pairs of noise levels, their loss and their distribution.

A consistency function maps noisy data of every level to the data at the end of its path (Song et
al. 2023). It is the estimate of x0 of the network, ``D``, which starts as a denoiser. Here
sigma = sqrt((1 - alpha_bar) / alpha_bar).
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.diffusion import Denoiser, NoiseSchedule
from iddpm.diffusion.losses import LossTerms
from iddpm.diffusion.schedule import broadcast
from iddpm.training.timesteps import Timesteps, UniformTimesteps

STEEPNESS = 8.0
"""The constant k of Geng et al. 2024: pairs lie further apart at small noise."""


def lower_sigma(sigma: Tensor, divisor: float) -> Tensor:
    """Return the noise level r that is paired with ``sigma`` [N], at least 0.

    r = max(0, sigma (1 - (1 + 8 sigmoid(-sigma)) / divisor)) (Geng et al. 2024, section 3.3, with
    q^(stage + 1) as the divisor). For a divisor of 5 or more it is never 0.
    """
    share = (1 + STEEPNESS * torch.sigmoid(-sigma)) / divisor
    return (sigma * (1 - share)).clamp(min=0)


def log_sigma_range(schedule: NoiseSchedule, sigma_max: float) -> tuple[float, float]:
    """Return the logarithms of the lowest and the highest noise level that are trained.

    The lowest is that of step 0. The highest is ``sigma_max``, or that of the noisiest step with
    signal if the process ends below it: at pure noise sigma is infinite, and the cosine schedule
    ends at 2e4.

    Raises:
        ValueError: no level of the process is below ``sigma_max``.
    """
    lam = schedule.half_log_snr
    if schedule.ends_in_pure_noise:
        lam = lam[:-1]
    lowest = -float(lam[0]) if len(lam) else math.inf
    highest = min(math.log(sigma_max), -float(lam[-1])) if len(lam) else -math.inf
    if not lowest < highest:
        raise ValueError(
            f"sigma_max={sigma_max:g} must be above the lowest noise level of the process, and the "
            "process must have two steps with signal or more"
        )
    return lowest, highest


class ConsistencyTimesteps(UniformTimesteps):
    """Steps, mostly fractional, whose noise level is log-normal within the trained range.

    Levels outside the range take its ends, so that the level at which sampling starts is trained.

    Args:
        schedule: the process.
        mean, spread: of ln sigma; -1.1 and 2 in Geng et al. 2024.
        sigma_max: the highest noise level.
    """

    def __init__(
        self, schedule: NoiseSchedule, mean: float, spread: float, sigma_max: float
    ) -> None:
        super().__init__(len(schedule))
        self.schedule = schedule
        self.mean = mean
        self.spread = spread
        self.range = log_sigma_range(schedule, sigma_max)

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`~iddpm.training.timesteps.TimestepSampler`; the steps are float64."""
        normal = torch.special.ndtri(torch.from_numpy(uniform))
        log_sigma = (self.mean + self.spread * normal).clamp(*self.range)
        return Timesteps(self.schedule.position_of(-log_sigma), torch.ones(len(uniform)))


def consistency_terms(
    denoiser: Denoiser,
    x_t: Tensor,
    t: Tensor,
    data: Tensor,
    noise: Tensor,
    *,
    divisor: float,
    huber: float = 0.0,
    **conditioning: Any,
) -> LossTerms:
    """Return |D(x_t) - stopgrad D(x_r)| / (sigma - r), the norm of :func:`distance`.

    ``x_r`` has the noise level r of :func:`lower_sigma` on the line through ``data`` and ``noise``.
    Both evaluations have the same dropout mask. Where r is below the lowest level of the process,
    which no network was trained on, the target is ``data`` itself: the anchor D(x_0) = x_0.

    Args:
        denoiser: the model.
        x_t: noisy data, [N, C, *spatial].
        t: [N] float64 steps of the denoiser's schedule.
        data, noise: the ends of the line on which ``x_r`` lies, each of the shape of ``x_t``.
        divisor: see :func:`lower_sigma`.
        huber: see :func:`distance`.
        conditioning: passed to the network.
    """
    schedule = denoiser.diffusion.schedule
    level = schedule.at(t)
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
    r = lower_sigma(sigma, divisor)
    lowest = math.exp(-float(schedule.half_log_snr[0]))
    lower = schedule.at(schedule.position_of(-r.clamp(min=lowest).log()))
    mask = int(torch.randint(2**62, ()))  # of dropout
    with torch.no_grad():
        signal, amount = broadcast(lower.alpha_bar.sqrt(), x_t), (1 - lower.alpha_bar).sqrt()
        x_r = signal * data + broadcast(amount, x_t) * noise
        torch.manual_seed(mask)
        target = denoiser(x_r, lower, **conditioning).x0
        target = torch.where(broadcast(r, x_t) > lowest, target, data)
    # Autocast may have cached copies of the weights that have no gradient.
    torch.clear_autocast_cache()
    torch.manual_seed(mask)
    apart = distance(denoiser(x_t, level, **conditioning).x0, target, huber)
    return LossTerms(apart / (sigma - r).to(apart), None, None)


def distance(x: Tensor, target: Tensor, huber: float = 0.0) -> Tensor:
    """Return the Euclidean distance d of items [N, C, *spatial], float32 [N], or its pseudo-Huber.

    With ``huber`` h above 0 it is sqrt(d^2 + c^2) - c, c = h sqrt(values of an item): d^2 / 2c for
    small distances (Song & Dhariwal 2023, equation 8, whose h is 0.00054).
    """
    error = (x - target).flatten(1).float()
    found: Tensor = torch.linalg.vector_norm(error, dim=1)
    constant = huber * math.sqrt(error.shape[1])
    return (found.square() + constant**2).sqrt() - constant if huber else found
