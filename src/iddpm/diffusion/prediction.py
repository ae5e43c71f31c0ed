"""Predictions: estimates of data and noise from a network's output, for every prediction type."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from iddpm.diffusion.level_distribution import LevelDistribution
from iddpm.diffusion.residual import Residual
from iddpm.diffusion.schedule import Level, broadcast

VarianceKind = Literal["learned_range", "learned", "fixed_small", "fixed_large", "analytic"]
SIGMA_DATA = 0.5
"""Standard deviation of the data that EDM's preconditioning assumes (Karras et al. 2022)."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """An estimate of x0 and of the noise eps in x_t; each [N, C, *spatial].

    ``x_t = sqrt(alpha_bar) x0 + sqrt(1 - alpha_bar) eps`` holds between the two.

    Attributes:
        x0: estimate of the data, about [-1, 1]; if ``residual`` is set, of the data's residual.
        eps: estimate of the noise.
        variance: the network's raw variance channels, when the variance is learned; the variance
            of x0 given x_t, when it is analytic.
        mean: estimate of the mean of x_{t-1}, only if the network predicts it; clipping x0 does not
            change it, and the reverse step uses it (the published behavior).
        variance_kind: the meaning of ``variance``.
        slope: the scaled gradient of log p(y | x_t) in the published form of classifier guidance.
            DDPM adds it, times the variance of the step, to the mean of the step.
        levels: the probability of each level of the data, if the model has one: the decoder, from
            which the last step of sampling draws.
        residual: the relation between ``x0`` and the data, if ``x0`` is a residual.

    >>> from iddpm import cosine
    >>> level = cosine(1000).at(torch.tensor([499]))
    >>> prediction = Prediction(x0=torch.full((1, 1, 4), 2.0), eps=torch.zeros(1, 1, 4))
    >>> prediction.clipped(torch.ones(1, 1, 4), level).x0
    tensor([[[1., 1., 1., 1.]]])
    """

    x0: Tensor
    eps: Tensor
    variance: Tensor | None = None
    mean: Tensor | None = None
    variance_kind: VarianceKind = "fixed_small"
    slope: Tensor | None = None
    levels: LevelDistribution | None = None
    residual: Residual | None = None

    @property
    def data(self) -> Tensor:
        """The estimate of the data, also where ``x0`` is a residual."""
        return self.x0 if self.residual is None else self.residual.decode(self.x0)

    def with_x0(self, x0: Tensor, x_t: Tensor, level: Level) -> "Prediction":
        """Return the prediction with another x0, such as a clipped one, and the matching eps."""
        return replace(self, x0=x0, eps=eps_given_x0(x_t, x0, level))

    def clipped(
        self, x_t: Tensor, level: Level, low: float = -1.0, high: float = 1.0
    ) -> "Prediction":
        """Return the prediction with the estimate of the data kept within [low, high]."""
        clamp = torch.clamp if self.residual is None else self.residual.clamp
        return self.with_x0(clamp(self.x0, low, high), x_t, level)

    def detach_mean(self) -> "Prediction":
        """Return it with gradients only through the variance (the paper's stop-gradient).

        The probabilities of levels, which the bound trains only at step 0, keep their gradients.
        """
        mean = None if self.mean is None else self.mean.detach()
        return replace(self, x0=self.x0.detach(), eps=self.eps.detach(), mean=mean)


def eps_given_x0(x_t: Tensor, x0: Tensor, level: Level) -> Tensor:
    """Return the noise in ``x_t`` for data ``x0``."""
    signal, noise = _roots(x_t, level)
    return (x_t - signal * x0) / noise


def from_eps(x_t: Tensor, eps: Tensor, level: Level) -> Prediction:
    r"""Read a prediction of the noise (Ho et al. 2020, equation 15).

    .. math::

        x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\, \epsilon}{\sqrt{\bar\alpha_t}}
    """
    signal, noise = _roots(x_t, level)
    return Prediction((x_t - noise * eps) / signal, eps)


def from_x0(x_t: Tensor, x0: Tensor, level: Level) -> Prediction:
    """Read a prediction of the data."""
    return Prediction(x0, eps_given_x0(x_t, x0, level))


def from_v(x_t: Tensor, v: Tensor, level: Level) -> Prediction:
    r"""Read a prediction of v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0.

    .. math::

        x_0 = \sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, v, \qquad
        \epsilon = \sqrt{1 - \bar\alpha_t}\, x_t + \sqrt{\bar\alpha_t}\, v

    Source: Salimans & Ho 2022, section 4.
    """
    signal, noise = _roots(x_t, level)
    return Prediction(signal * x_t - noise * v, noise * x_t + signal * v)


def from_edm(
    x_t: Tensor, output: Tensor, level: Level, sigma_data: float = SIGMA_DATA
) -> Prediction:
    """Read the output F of a network preconditioned as in EDM.

    x0 = c_skip x + c_out F (Karras et al. 2022, equation 7 and table 1) with their
    x = x_t / sqrt(alpha_bar) and sigma^2 = (1 - alpha_bar) / alpha_bar. Written for x_t everything
    stays finite at alpha_bar = 0, and with ``sigma_data`` = 1 the output F is -v.
    """
    signal, noise = _roots(x_t, level)
    variance = _variance(x_t, level, sigma_data)
    out = sigma_data / variance.sqrt() * output
    x0 = sigma_data**2 * signal / variance * x_t + noise * out
    return Prediction(x0, noise / variance * x_t - signal * out)


def edm_input_scale(x_t: Tensor, level: Level, sigma_data: float = SIGMA_DATA) -> Tensor:
    """Return EDM's c_in for x_t: it gives the input of the network a variance of 1."""
    return _variance(x_t, level, sigma_data).rsqrt()


def from_previous(x_t: Tensor, mean: Tensor, level: Level) -> Prediction:
    """Read a prediction of the mean of x_{t-1} by inverting the posterior mean."""
    of_x0, of_x_t = posterior_coefficients(level)
    inverse = broadcast(1 / of_x0, x_t)
    x0 = inverse * mean - broadcast(of_x_t / of_x0, x_t) * x_t
    return Prediction(x0, eps_given_x0(x_t, x0, level), mean=mean)


def posterior_coefficients(level: Level) -> tuple[Tensor, Tensor]:
    """Return the coefficients of x0 and x_t in the mean of q(x_{t-1} | x_t, x0).

    Each is float64 [N] (Ho et al. 2020, equation 7).
    """
    alpha_bar, before = level.alpha_bar, level.alpha_bar_prev
    alpha = alpha_bar / before
    of_x0 = (1 - alpha) * before.sqrt() / (1 - alpha_bar)
    of_x_t = (1 - before) * alpha.sqrt() / (1 - alpha_bar)
    return of_x0, of_x_t


def posterior_mean(x0: Tensor, x_t: Tensor, level: Level) -> Tensor:
    """Return the mean of q(x_{t-1} | x_t, x0)."""
    of_x0, of_x_t = posterior_coefficients(level)
    return broadcast(of_x0, x_t) * x0 + broadcast(of_x_t, x_t) * x_t


@dataclass(frozen=True)
class PredictionType:
    """The meaning of a network's output, as functions between it and the data.

    Attributes:
        read: a function of x_t, the output and the level that returns the prediction.
        target: a function of x0, eps, x_t and the level that returns a perfect network's output.
        eps_error: the squared error of eps per unit of squared error of the output, float64 [N].
            x_t is known, so the error of one estimate determines the errors of all others.
        blind_at_pure_noise: whether the output does not depend on the data if alpha_bar is 0.
        input_scale: the factor of x_t in the network's input.
        gives_levels: whether the network returns the input of
            :func:`~iddpm.diffusion.level_distribution.distribution_of`; ``read`` then takes the
            mean of the levels.
        loss_space: the space of the loss by default; None for that of the output.
    """

    read: Callable[[Tensor, Tensor, Level], Prediction]
    target: Callable[[Tensor, Tensor, Tensor, Level], Tensor]
    eps_error: Callable[[Level], Tensor]
    blind_at_pure_noise: bool = False
    input_scale: Callable[[Tensor, Level], Tensor] | None = None
    gives_levels: bool = False
    loss_space: str | None = None


def prediction_type(name: str, sigma_data: float = SIGMA_DATA) -> PredictionType:
    """Return a type by name; ``sigma_data`` is the data's standard deviation, for ``edm``.

    Raises:
        ValueError: no such type.
    """
    if name not in PREDICTION_TYPES:
        known = ", ".join(PREDICTION_TYPES)
        raise ValueError(f"predicts={name!r} is unknown: use one of {known}")
    return PREDICTION_TYPES[name](sigma_data)


def target(
    space: str,
    x0: Tensor,
    eps: Tensor,
    x_t: Tensor,
    level: Level,
    sigma_data: float = SIGMA_DATA,
) -> Tensor:
    """Return a perfect network's prediction in ``space`` for this data and noise."""
    return prediction_type(space, sigma_data).target(x0, eps, x_t, level)


def in_space(
    space: str,
    prediction: Prediction,
    x_t: Tensor,
    level: Level,
    sigma_data: float = SIGMA_DATA,
) -> Tensor:
    """Return the prediction in ``space``, for comparison with :func:`target`."""
    if space == "previous" and prediction.mean is not None:
        return prediction.mean
    return target(space, prediction.x0, prediction.eps, x_t, level, sigma_data)


def eps_error_per(space: str, level: Level, sigma_data: float = SIGMA_DATA) -> Tensor:
    """Return the squared error of eps per unit of squared error in ``space``, float64 [N]."""
    return prediction_type(space, sigma_data).eps_error(level)


def _v_target(x0: Tensor, eps: Tensor, x_t: Tensor, level: Level) -> Tensor:
    signal, noise = _roots(x_t, level)
    return signal * eps - noise * x0


def _edm_target(x0: Tensor, eps: Tensor, x_t: Tensor, level: Level, sigma_data: float) -> Tensor:
    signal, noise = _roots(x_t, level)
    scale = sigma_data * _variance(x_t, level, sigma_data).sqrt()
    return (noise * x0 - sigma_data**2 * signal * eps) / scale


def _snr(level: Level) -> Tensor:
    """Return alpha_bar / (1 - alpha_bar): the squared error of eps per unit of that of x0."""
    return level.alpha_bar / (1 - level.alpha_bar)


def _edm_eps_error(level: Level, sigma_data: float) -> Tensor:
    signal = level.alpha_bar * sigma_data**2
    return signal / (1 - level.alpha_bar + signal)


def _edm(sigma_data: float) -> PredictionType:
    return PredictionType(
        partial(from_edm, sigma_data=sigma_data),
        partial(_edm_target, sigma_data=sigma_data),
        partial(_edm_eps_error, sigma_data=sigma_data),
        input_scale=partial(edm_input_scale, sigma_data=sigma_data),
    )


_EPS = PredictionType(
    from_eps,
    lambda x0, eps, x_t, level: eps,
    lambda level: torch.ones_like(level.alpha_bar),
    blind_at_pure_noise=True,
)
_X0 = PredictionType(from_x0, lambda x0, eps, x_t, level: x0, _snr)
_CATEGORICAL = replace(_X0, gives_levels=True, loss_space="v")
_V = PredictionType(from_v, _v_target, lambda level: level.alpha_bar)
_PREVIOUS = PredictionType(
    from_previous,
    lambda x0, eps, x_t, level: posterior_mean(x0, x_t, level),
    lambda level: _snr(level) / posterior_coefficients(level)[0] ** 2,
    blind_at_pure_noise=True,
)

PREDICTION_TYPES: Mapping[str, Callable[[float], PredictionType]] = {
    "eps": lambda _: _EPS,
    "x0": lambda _: _X0,
    "v": lambda _: _V,
    "edm": _edm,
    "previous": lambda _: _PREVIOUS,
    "categorical": lambda _: _CATEGORICAL,
}
"""Every prediction type by name, made with the data's standard deviation."""


def _variance(x: Tensor, level: Level, sigma_data: float) -> Tensor:
    """Return the variance of x_t for data with the standard deviation ``sigma_data``."""
    return broadcast(1 - level.alpha_bar + level.alpha_bar * sigma_data**2, x)


def _roots(x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
    """Return sqrt(alpha_bar) and sqrt(1 - alpha_bar), shaped to multiply ``x``."""
    alpha_bar = level.alpha_bar
    return broadcast(alpha_bar.sqrt(), x), broadcast(torch.sqrt(1 - alpha_bar), x)
