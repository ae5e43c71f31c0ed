"""How much the error of each noise level counts: weights on the squared error of eps.

A weight on the error of eps means the same objective whatever the loss is measured in: the losses
convert it by :func:`~iddpm.diffusion.prediction.eps_error_per`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from iddpm.diffusion.schedule import Level

Weighting = Callable[[Level], Tensor]
"""From noise levels to the weights of eps' squared errors, float64 [N]."""


def min_snr(level: Level, gamma: float = 5.0) -> Tensor:
    """Return min(SNR, gamma) / SNR: no noise level counts more than ``gamma`` in terms of x0.

    That is min(SNR, gamma) for the error of x0, and min(SNR, gamma) / (SNR + 1) for that of v.

    Source: Hang et al. 2023, section 3.
    """
    snr = level.alpha_bar / (1 - level.alpha_bar)
    return (gamma / snr).clamp(max=1)


def sigmoid(level: Level, bias: float = 0.0) -> Tensor:
    """Return sigmoid(bias - log SNR): levels with less noise than exp(-bias) fade out.

    Timesteps stay uniform. As a weight on the bound in log-SNR, which is how Kingma & Gao 2023
    compare weightings, this is the same sigmoid times the density of log-SNR under the schedule.

    Source: Kingma & Gao 2023; Hoogeboom et al. 2024 (the bias).
    """
    return torch.sigmoid(bias - torch.logit(level.alpha_bar))
