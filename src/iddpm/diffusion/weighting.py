"""Weightings: weights of the squared error of eps by noise level.

A weight of the error of eps gives the same objective in every space of the loss: the losses convert
it by :func:`~iddpm.diffusion.prediction.eps_error_per`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from iddpm.diffusion.prediction import SIGMA_DATA, eps_error_per
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


UNIFORM_SHARE = 0.1
"""Share of the levels that are uniform over the steps, beside the log-normal ones: every step of
sampling is trained, and importance weights of the bound stay below 10."""


def log_normal(
    level: Level,
    log_sigma_mean: float = -1.2,
    log_sigma_spread: float = 1.2,
    *,
    num_steps: int = 1000,
    sigma_data: float = SIGMA_DATA,
) -> Tensor:
    r"""Return EDM's weight of the error of x0 times its density of noise levels.

    .. math::

        \lambda(\sigma)\, T\, q(t), \qquad
        \lambda = (\sigma^2 + \sigma_{\mathrm{data}}^2) / (\sigma\, \sigma_{\mathrm{data}})^2

    converted to the error of eps. q is :func:`log_normal_density` over T, so uniform timesteps have
    the expected loss of EDM's levels. On the output F of the prediction ``edm`` lambda is 1.

    Args:
        level: a step of the schedule of training.
        log_sigma_mean, log_sigma_spread: of ln sigma, with sigma^2 = (1 - alpha_bar) / alpha_bar.
        num_steps: T.
        sigma_data: standard deviation of the data.

    Source: Karras et al. 2022, table 1.

    >>> from iddpm import cosine
    >>> weights = log_normal(cosine(1000).at(torch.tensor([0, 200, 700])))
    >>> [round(float(w), 2) for w in weights]
    [0.71, 2.38, 7.36]
    """
    density = log_normal_density(level, num_steps, log_sigma_mean, log_sigma_spread)
    return density / eps_error_per("edm", level, sigma_data)


def log_normal_density(level: Level, num_steps: int, mean: float, spread: float) -> Tensor:
    """Return the density of log-normal noise levels over that of uniform timesteps, float64 [N].

    Step t stands for all sigma between that of the step before it and its own. A tenth
    (:data:`UNIFORM_SHARE`) of the levels is uniform.
    """

    def below(alpha_bar: Tensor) -> Tensor:
        probability: Tensor = torch.special.ndtr((-0.5 * torch.logit(alpha_bar) - mean) / spread)
        return probability

    share = below(level.alpha_bar) - below(level.alpha_bar_prev)
    return (1 - UNIFORM_SHARE) * num_steps * share + UNIFORM_SHARE
