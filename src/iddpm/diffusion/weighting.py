"""Weightings: weights of the squared error of eps by noise level.

A weight of the error of eps gives the same objective in every space of the loss: the losses convert
it by :func:`~iddpm.diffusion.prediction.eps_error_per`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from iddpm.diffusion.schedule import Level

Weighting = Callable[[Level], Tensor]
"""A function of noise levels that returns the weights of the squared errors of eps, float64 [N]."""


def min_snr(level: Level, gamma: float = 5.0) -> Tensor:
    r"""Return min(SNR, gamma) / SNR, which limits the weight of the error of x0 to ``gamma``.

    .. math::

        w = \min(\mathrm{SNR}, \gamma) / \mathrm{SNR}, \qquad
        \mathrm{SNR} = \bar\alpha_t / (1 - \bar\alpha_t)

    This is a weight of min(SNR, gamma) on x0 and of min(SNR, gamma) / (SNR + 1) on v.

    Source: Hang et al. 2023, section 3.

    >>> from iddpm import cosine
    >>> weights = min_snr(cosine(1000).at(torch.tensor([0, 100, 999])))
    >>> [round(float(w), 2) for w in weights]
    [0.0, 0.15, 1.0]
    """
    snr = level.alpha_bar / (1 - level.alpha_bar)
    return (gamma / snr).clamp(max=1)


def sigmoid(level: Level, bias: float = 0.0) -> Tensor:
    """Return sigmoid(bias - log SNR): levels with less noise than exp(-bias) fade out.

    Timesteps stay uniform. Kingma & Gao 2023 compare weightings of the bound in log-SNR: as such,
    this is the same sigmoid times the density of log-SNR under the schedule.

    Source: Kingma & Gao 2023; Hoogeboom et al. 2024 (the bias).

    >>> from iddpm import cosine
    >>> weights = sigmoid(cosine(1000).at(torch.tensor([0, 499, 999])))
    >>> [round(float(w), 2) for w in weights]
    [0.0, 0.51, 1.0]
    """
    return torch.sigmoid(bias - torch.logit(level.alpha_bar))
