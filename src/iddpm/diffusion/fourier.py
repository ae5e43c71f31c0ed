"""Fourier features: what shows a network where between two levels a value lies."""

import math

import torch
from torch import Tensor

from iddpm.diffusion.schedule import Level, broadcast


def fourier_features(x_t: Tensor, level: Level, count: int, bits: int) -> Tensor:
    """Return sines and cosines of noisy data at periods of 1, 2, 4, ... levels.

    With w = (2**bits - 1) pi 2**-k, the waves of a value without noise, averaged over its noise,
    are damped by exp(-(w noise)^2 / 2): what the noise makes meaningless is scaled away so. All is
    computed in the type of ``x_t``, since bfloat16 has half a level near 1.

    Source: Kingma et al. 2021, appendix, who do not damp and whose levels are 2 / 256 apart.

    Args:
        x_t: [N, C, *spatial], float32 or float64.
        level: its noise.
        count: how many periods.
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
