"""Fourier features: they show a network where a value lies between two levels."""

import math

import torch
from torch import Tensor

from iddpm.diffusion.schedule import Level, broadcast


def fourier_features(x_t: Tensor, level: Level, count: int, bits: int) -> Tensor:
    """Return sines and cosines of noisy data at periods of 1, 2, 4, ... levels.

    With w = (2**bits - 1) pi 2**-k, each wave is multiplied by exp(-(w noise)^2 / 2), its mean over
    the noise, so that waves that are shorter than the noise vanish. Everything is computed in the
    type of ``x_t``, because bfloat16 has a precision of half a level near 1.

    Source: Kingma et al. 2021, appendix, without the damping and with levels 2 / 256 apart.

    Args:
        x_t: [N, C, *spatial], float32 or float64.
        level: its noise.
        count: number of periods.
        bits: depth of the data.

    Returns:
        [N, 2 C count, *spatial]: for each period the sines and then the cosines of all channels.
    """
    waves = []
    for k in range(count):
        w = (2**bits - 1) * math.pi * 2.0**-k
        damping = broadcast(torch.exp(-0.5 * w**2 * (1 - level.alpha_bar)), x_t)
        waves += [torch.sin(w * x_t) * damping, torch.cos(w * x_t) * damping]
    return torch.cat(waves, dim=1)
