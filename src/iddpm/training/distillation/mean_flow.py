"""MeanFlow: the network learns the mean velocity of a path between two levels."""

import math
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Denoiser, Level
from iddpm.diffusion.losses import LossTerms
from iddpm.diffusion.schedule import broadcast
from iddpm.training.distillation.derivative import along_path, velocity

SAME = 0.25
"""Share of the items whose two levels are one: there the velocity itself is learned."""
SMALLEST = 1e-3
"""Added to the squared error by which an item's loss is divided, c of Geng et al. 2025."""


def mean_flow(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    teacher: Denoise,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    r"""Return the squared error of the MeanFlow identity, divided by itself without a gradient.

    .. math::

        u(x_\phi, \psi, \phi) = \dot x - (\phi - \psi) \frac{d}{d\phi} u(x_\phi, \psi, \phi)

    with the angle phi = arctan(sigma) as the time of the path, and psi <= phi the angle at which it
    ends: x_psi = x_phi - (phi - psi) u. The network's v is u. The network is conditioned on
    ``end``, psi in units of a right angle. The velocity of the path is the teacher's v.

    Source: Geng et al. 2025, "Mean Flows for One-step Generative Modeling", equations 6 and 10 and
    section 4.2. There data and noise are joined by lines; the identity holds for every path. The
    derivative is a difference quotient.

    Args:
        denoiser: the model.
        x0: data in [-1, 1], [N, C, *spatial].
        t: [N] float64 steps of the denoiser's schedule.
        noise: standard normal, the shape of ``x0``.
        teacher: the velocity of the paths.
        own_estimate: not used: the network is conditioned on no earlier estimate.
        conditioning: passed to the network, and to the teacher.
    """
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    level = denoiser.diffusion.schedule.at(t)
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
    phi = sigma.atan()
    drawn = (torch.rand(len(t), dtype=torch.float64) - SAME) / (1 - SAME)
    psi = torch.where(drawn < 0, 1.0, drawn) * phi
    end = (psi / (math.pi / 2)).to(x_t)

    def output(x: Tensor, at: Level) -> Tensor:
        return velocity(denoiser(x, at, end=end, **conditioning), at)

    with torch.no_grad():
        slope = velocity(teacher(x_t, level, **conditioning), level)
    by_log_sigma = along_path(output, denoiser, x_t, sigma, slope)
    torch.clear_autocast_cache()  # it may hold copies of the weights that have no gradient
    # d ln sigma / d phi = 1 / (sin phi cos phi)
    change = by_log_sigma * broadcast((phi - psi) / (phi.sin() * phi.cos()), x_t)
    squared = (output(x_t, level) - (slope - change)).flatten(1).square().mean(dim=1)
    return LossTerms(squared / (squared.detach() + SMALLEST), squared.detach(), None)
