"""Velocities of paths, and how the output of a network changes along them."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from iddpm.diffusion import Denoiser, Level, Prediction
from iddpm.diffusion.schedule import broadcast
from iddpm.training.distillation.consistency import log_sigma_range

APART = 0.02
"""Distance in ln sigma of the two evaluations of a derivative."""


def velocity(prediction: Prediction, level: Level) -> Tensor:
    """Return v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.

    It is the derivative of x_t by the angle arctan(sigma).
    """
    signal, noise = level.alpha_bar.sqrt(), (1 - level.alpha_bar).sqrt()
    x0 = prediction.x0
    return broadcast(signal, x0) * prediction.eps - broadcast(noise, x0) * x0


def along_path(
    function: Callable[[Tensor, Level], Tensor],
    denoiser: Denoiser,
    x_t: Tensor,
    sigma: Tensor,
    slope: Tensor,
) -> Tensor:
    """Return the derivative of ``function`` by ln sigma along a path, without a gradient.

    It is a difference of two evaluations with the same dropout mask, :data:`APART` in ln sigma,
    within the levels of the process: any network can be differentiated so.

    Args:
        function: of noisy data and its level.
        denoiser: the model, for its process.
        x_t: noisy data, [N, C, *spatial].
        sigma: its noise levels, float64 [N].
        slope: the derivative of x_t by the angle arctan(sigma).
    """
    schedule = denoiser.diffusion.schedule
    low, high = log_sigma_range(schedule, math.inf)
    ends = [(sigma.log() + step).clamp(low, high) for step in (-APART / 2, APART / 2)]
    mask = int(torch.randint(2**62, ()))  # of dropout
    values = []
    with torch.no_grad():
        for end in ends:
            moved = x_t + broadcast(end.exp().atan() - sigma.atan(), x_t) * slope
            torch.manual_seed(mask)
            values.append(function(moved, schedule.at(schedule.position_of(-end))))
    return (values[1] - values[0]) / broadcast(ends[1] - ends[0], x_t)
