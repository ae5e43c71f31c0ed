"""Continuous-time consistency: the estimate must not change along the teacher's path."""

from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Denoiser, Level
from iddpm.diffusion.losses import LossTerms
from iddpm.diffusion.schedule import broadcast
from iddpm.training.distillation.derivative import along_path, velocity

WARM_UP = 0.1
"""Share of the training in which the part of the tangent that is unstable at first grows to 1."""
SMALLEST = 0.1
"""Added to the norm of the tangent, c of Lu & Song 2024."""


def continuous(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    teacher: Denoise,
    progress: float = 1.0,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    r"""Return the mean squared error of v to the network's own v moved by a normalized tangent.

    .. math::

        g = -\cos^2\phi\,(F - \dot x) - r\,(\sin\phi\cos\phi\,x + dF / d\ln\sigma), \qquad
        \lVert F - F^- - g / (\lVert g\rVert + 0.1) \rVert^2

    with the angle phi = arctan(sigma), F the network's v, F^- the same without a gradient, and the
    teacher's v for the velocity of the path. g is cos(phi) times the derivative of the estimate of
    x0 along the path, and its norm is the root of the mean square. r grows from 0 to 1 in the
    first :data:`WARM_UP` of the training. The weights that the paper learns are left out.

    Source: Lu & Song 2024, "Simplifying, Stabilizing and Scaling Continuous-Time Consistency
    Models", equations 6 and 8, and algorithm 1. The derivative is a difference quotient.

    Args:
        denoiser: the model.
        x0: data in [-1, 1], [N, C, *spatial].
        t: [N] float64 steps of the denoiser's schedule.
        noise: standard normal, the shape of ``x0``.
        teacher: the velocity of the paths.
        progress: the share of the training that is done.
        own_estimate: not used: the network is conditioned on no earlier estimate.
        conditioning: passed to the network, and to the teacher.
    """
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    level = denoiser.diffusion.schedule.at(t)
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()

    def output(x: Tensor, at: Level) -> Tensor:
        return velocity(denoiser(x, at, **conditioning), at)

    with torch.no_grad():
        slope = velocity(teacher(x_t, level, **conditioning), level)
    change = along_path(output, denoiser, x_t, sigma, slope)
    torch.clear_autocast_cache()  # it may hold copies of the weights that have no gradient
    found = output(x_t, level)
    fixed = found.detach()
    squared = broadcast(level.alpha_bar, x_t)
    mixed = broadcast((level.alpha_bar * (1 - level.alpha_bar)).sqrt(), x_t)
    share = min(1.0, progress / WARM_UP)
    tangent = -squared * (fixed - slope) - share * (mixed * x_t + change)
    norm = tangent.flatten(1).square().mean(dim=1).sqrt()
    tangent = tangent / broadcast(norm + SMALLEST, tangent)
    return LossTerms((found - fixed - tangent).flatten(1).square().mean(dim=1), None, None)
