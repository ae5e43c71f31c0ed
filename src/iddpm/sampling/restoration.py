"""Restoration: samples that fit a measurement y = A x + noise by a known linear operator.

Each method is a function from one denoiser to another, whose estimate is that of x0 given x_t *and*
the measurement, which it is called with as ``measured``. Every sampler then draws from the
posterior, or near it. With C the covariance of x0 given x_t,

    E[x0 | x_t, y] = E[x0 | x_t] + C A^T (A C A^T + noise^2)^-1 (y - A E[x0 | x_t])

is exact for Gaussian data. The methods differ in what they take for C and for the inverse:

- :func:`ddnm` takes C = v I, in closed form, without a gradient. Without noise this replaces the
  range of A by the pseudo-inverse of the measurement and keeps the null space (Wang et al. 2023).
  Exact for Gaussian data that is white.
- :func:`pigdm` takes C from the model, by Tweedie's formula C = (1 - alpha_bar) / sqrt(alpha_bar)
  times the Jacobian of x0 by x_t, so that it follows the gradient of the residual (Chung et al.
  2023), but C = v I within the inverse (Song et al. 2023). Exact for white Gaussian data.
- :func:`mmps` takes C from the model in both places and solves for the inverse by conjugate
  gradients (Rozet et al. 2024). Exact for all Gaussian data.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from iddpm.diffusion import Denoise, Level, Prediction
from iddpm.diffusion.prediction import SIGMA_DATA, posterior_mean
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling.conjugate_gradients import conjugate_gradients
from iddpm.sampling.operators import Operator

SOLVES = 3
"""Conjugate-gradient steps of :func:`mmps`, each of them one gradient of the model. With five steps
digits with missing pixels came out worse: a network's Jacobian is hardly symmetric."""
NOISIEST_GRADIENT = 30.0
"""Noise level sigma above which no gradient of a model is used: hardly anything of the data is left
there, and 1 / alpha_bar would magnify the errors of the network's Jacobian."""
RIDGE = 0.03
"""What :func:`mmps` adds to A C A^T by default."""


def ddnm(
    denoise: Denoise, operator: Operator, noise: float = 0.0, *, data_std: float = SIGMA_DATA
) -> Denoise:
    """Move the estimate of x0 along the range of the operator, to where the measurement lies.

    Wang et al. 2023, equation 13; with noise, their weight on each singular value s is that of the
    posterior for white data, v s / (v s^2 + noise^2). One evaluation of the model, no gradient.

    Args:
        denoise: the model; the result is called with ``measured`` [N, *measured_shape] too.
        operator: what was measured.
        noise: its noise's standard deviation.
        data_std: standard deviation of the data, from which v follows where there is noise.

    >>> from iddpm import Mask, cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> normal = lambda x, l: from_x0(x, l.alpha_bar.sqrt().float() * x, l)  # standard normal data
    >>> model = ddnm(normal, Mask((1, 2), torch.tensor([True, False])), data_std=1.0)
    >>> level, y = cosine(1000).at(torch.tensor([500])), torch.tensor([[[0.25, 0.0]]])
    >>> [round(float(v), 2) for v in model(torch.zeros(1, 1, 2), level, measured=y).x0[0, 0]]
    [0.25, 0.0]
    """
    _check_noise(noise)

    def moved(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        measured = _measured(conditioning, operator)
        prediction = denoise(x_t, level, **conditioning)
        residual = measured - operator.forward(prediction.x0)
        ratio = noise**2 / _white_variance(level, data_std)
        return _with_x0(prediction, prediction.x0 + operator.inverse(residual, ratio), x_t, level)

    return moved


def pigdm(
    denoise: Denoise, operator: Operator, noise: float = 0.0, *, data_std: float = SIGMA_DATA
) -> Denoise:
    """Follow the gradient of the residual through the model.

    The score's term of Song et al. 2023, equation 7: the likelihood of the measurement given x_t
    with the variance v A A^T + noise^2. (Chung et al. 2023 have a multiple of 1 there, and a step
    that is found by trial.) One evaluation of the model and one gradient.

    Args:
        denoise, operator, noise, data_std: as for :func:`ddnm`.

    >>> from iddpm import Mask, cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> normal = lambda x, l: from_x0(x, l.alpha_bar.sqrt().float() * x, l)  # standard normal data
    >>> model = pigdm(normal, Mask((1, 2), torch.tensor([True, False])), data_std=1.0)
    >>> level, y = cosine(1000).at(torch.tensor([500])), torch.tensor([[[0.25, 0.0]]])
    >>> [round(float(v), 2) for v in model(torch.zeros(1, 1, 2), level, measured=y).x0[0, 0]]
    [0.25, 0.0]
    """
    _check_noise(noise)

    def solve(residual: Tensor, covariance: Callable[[Tensor], Tensor], level: Level) -> Tensor:
        white = _white_variance(level, data_std)
        weighted = operator.inverse(residual, noise**2 / white)
        return weighted / broadcast(white, weighted)

    return _by_gradient(denoise, operator, noise, solve, data_std)


def mmps(
    denoise: Denoise,
    operator: Operator,
    noise: float = 0.0,
    *,
    solves: int = SOLVES,
    ridge: float = RIDGE,
    data_std: float = SIGMA_DATA,
) -> Denoise:
    """Move the estimate of x0 to its mean given the measurement, if x0 is Gaussian given x_t.

    Moment matching posterior sampling (Rozet et al. 2024, algorithms 3 and 4). One evaluation of
    the model and ``solves`` + 1 gradients.

    Args:
        denoise, operator, noise, data_std: as for :func:`ddnm`.
        solves: steps of conjugate gradients; as many as there are measurements are exact.
        ridge: what is added to A C A^T, as a share of its norm for white data. The Jacobian of a
            network is neither quite symmetric nor positive; 0 is exact for Gaussian data.

    >>> from iddpm import Mask, cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> normal = lambda x, l: from_x0(x, l.alpha_bar.sqrt().float() * x, l)  # standard normal data
    >>> model = mmps(normal, Mask((1, 2), torch.tensor([True, False])), data_std=1.0)
    >>> level, y = cosine(1000).at(torch.tensor([500])), torch.tensor([[[0.25, 0.0]]])
    >>> [round(float(v), 2) for v in model(torch.zeros(1, 1, 2), level, measured=y).x0[0, 0]]
    [0.24, 0.0]
    """
    _check_noise(noise)
    if solves < 1:
        raise ValueError(f"{solves} steps of conjugate gradients solve nothing: use 1 or more")

    def solve(residual: Tensor, covariance: Callable[[Tensor], Tensor], level: Level) -> Tensor:
        white = _white_variance(level, data_std) * operator.norm**2
        least = broadcast(noise**2 + ridge * white, residual)
        solved = conjugate_gradients(
            lambda z: operator.forward(covariance(operator.adjoint(z))) + least * z,
            residual,
            steps=solves,
        )
        return operator.adjoint(solved)

    return _by_gradient(denoise, operator, noise, solve, data_std)


def recomputed(denoise: Denoise) -> Denoise:
    """Keep nothing of an evaluation for its gradient but the input: it is computed again.

    Put it around the model of tiles: a gradient through all tiles then needs the memory of one
    batch of them.
    """

    def called(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        if not x_t.requires_grad:
            return denoise(x_t, level, **conditioning)
        prediction: Prediction = checkpoint(
            denoise, x_t, level, use_reentrant=False, preserve_rng_state=False, **conditioning
        )
        return prediction

    return called


Solve = Callable[[Tensor, Callable[[Tensor], Tensor], Level], Tensor]
"""From the residual r, a product with the covariance, and the level to A^T (A C A^T + ...)^-1 r."""


def _by_gradient(
    denoise: Denoise, operator: Operator, noise: float, solve: Solve, data_std: float
) -> Denoise:
    """Return the model with C ``solve(residual)`` added to its estimate of x0.

    Where the noise is too large for a gradient it is :func:`ddnm`.
    """
    without_gradient = ddnm(denoise, operator, noise, data_std=data_std)

    def moved(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        measured = _measured(conditioning, operator)
        sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
        if bool((sigma > NOISIEST_GRADIENT).any()):
            return without_gradient(x_t, level, measured=measured, **conditioning)
        with torch.enable_grad():
            seen = x_t.detach().requires_grad_()
            prediction = denoise(seen, level, **conditioning)
        estimate = prediction.x0.detach()
        tweedie = broadcast((1 - level.alpha_bar) / level.alpha_bar.sqrt(), x_t)

        def covariance(v: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(prediction.x0, seen, v, retain_graph=True)
            return tweedie * product

        residual = measured - operator.forward(estimate)
        step = covariance(solve(residual, covariance, level))
        return _with_x0(_detached(prediction), estimate + step, x_t, level)

    return moved


def _measured(conditioning: dict[str, Any], operator: Operator) -> Tensor:
    """Take the measurement from what a model is called with.

    Raises:
        ValueError: there is none, or none of this operator.
    """
    if "measured" not in conditioning:
        raise ValueError("a model of restoration is called with measured, what the operator gave")
    measured: Tensor = conditioning.pop("measured")
    operator.check(measured)
    return measured


def _with_x0(prediction: Prediction, x0: Tensor, x_t: Tensor, level: Level) -> Prediction:
    """Return the prediction with another estimate of x0, and all that follows from it."""
    mean = None if prediction.mean is None else posterior_mean(x0, x_t, level)
    return replace(prediction.with_x0(x0, x_t, level), mean=mean, levels=None)


def _detached(prediction: Prediction) -> Prediction:
    """Return the prediction without the graph of its gradient."""
    held = {name: getattr(prediction, name) for name in ("x0", "eps", "variance", "mean", "slope")}
    tensors = {name: value.detach() for name, value in held.items() if value is not None}
    return replace(prediction, levels=None, **tensors)


def _white_variance(level: Level, data_std: float) -> Tensor:
    """Return the variance of x0 given x_t of white Gaussian data, float64 [N]."""
    alpha_bar = level.alpha_bar
    return data_std**2 * (1 - alpha_bar) / (alpha_bar * data_std**2 + 1 - alpha_bar)


def _check_noise(noise: float) -> None:
    if not 0 <= noise < float("inf"):
        raise ValueError(
            f"the measurement's noise is {noise:g}: give a standard deviation, 0 or more"
        )
