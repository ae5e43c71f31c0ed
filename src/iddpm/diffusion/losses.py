"""Training losses, one value per item.

``simple`` trains the mean, ``vlb`` the bound, and ``hybrid`` both: its bound trains only the
variance (Nichol & Dhariwal 2021, section 3.1).

>>> from iddpm import GaussianDiffusion, cosine, losses
>>> diffusion = GaussianDiffusion(cosine(1000), "learned_range")
>>> denoiser = Denoiser(lambda x_t, shown: torch.zeros(len(x_t), 2, 8), diffusion)
>>> x0, t, noise = torch.zeros(4, 1, 8), torch.tensor([0, 10, 500, 999]), torch.randn(4, 1, 8)
>>> [len(loss(denoiser, x0, t, noise).loss) for loss in (losses.simple, losses.hybrid)]
[4, 4]
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from iddpm.diffusion.denoiser import Denoiser
from iddpm.diffusion.prediction import Prediction, eps_error_per, in_space, target
from iddpm.diffusion.schedule import Level
from iddpm.diffusion.variational_bound import per_item, vlb_term
from iddpm.diffusion.weighting import Weighting


class LossTerms(NamedTuple):
    """A loss and its parts, each [N].

    >>> terms = LossTerms(loss=torch.ones(4), mse=torch.ones(4), vb=None)
    >>> float(terms.loss.mean())
    1.0
    """

    loss: Tensor
    mse: Tensor | None
    """Mean squared error in the space of the loss, before any weighting."""
    vb: Tensor | None
    """The term of the bound in the loss: bits per dimension times its weight."""


def simple(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    space: str | None = None,
    weighting: Weighting | None = None,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    r"""Return the mean squared error (Ho et al. 2020, equation 14), weighted by noise level.

    .. math::

        L_{\mathrm{simple}} = w(t)\, \lVert \epsilon - \epsilon_\theta(x_t, t) \rVert^2 / d

    with d values in an item, and the errors of ``space`` for those of eps.

    Args:
        denoiser: the model.
        x0: data in [-1, 1], [N, C, *spatial].
        t: [N] int64 steps of the denoiser's schedule.
        noise: standard normal, the shape of ``x0``.
        space: the space of the error; by default that of the network's prediction.
        weighting: weights of the squared error of eps, converted to ``space``, from
            :mod:`~iddpm.diffusion.weighting`; by default all errors in ``space`` have equal weight.
        own_estimate: first estimate x0 without a gradient, and condition the denoiser on this
            estimate (Chen et al. 2022, algorithm 1).
        conditioning: passed to the network.

    >>> from iddpm import GaussianDiffusion, cosine
    >>> diffusion = GaussianDiffusion(cosine(1000), "fixed_small")
    >>> denoiser = Denoiser(lambda x_t, shown: torch.zeros_like(x_t), diffusion)
    >>> simple(denoiser, torch.zeros(2, 1, 8), torch.tensor([0, 999]), torch.ones(2, 1, 8)).loss
    tensor([1., 1.])
    """
    x_t, level = _noisy(denoiser, x0, t, noise)
    prediction = _predict(denoiser, x_t, level, own_estimate, conditioning)
    mse, weight = _mse(denoiser, prediction, x0, x_t, noise, level, space, weighting)
    return LossTerms(weight * mse, mse, None)


def vlb(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    bits: int | None = 8,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    r"""Return the bound's term at t in bits per dimension, times the number of steps.

    .. math::

        T \cdot D_{KL}\left(q(x_{t-1} | x_t, x_0)\, \Vert\, p_\theta(x_{t-1} | x_t)\right)

    Its mean over uniform t is the whole bound without the prior term, which has no parameters.
    ``bits`` is the bit depth of the data, None for continuous data; the other arguments are those
    of :func:`simple`.

    >>> from iddpm import GaussianDiffusion, cosine
    >>> diffusion = GaussianDiffusion(cosine(1000), "fixed_small")
    >>> denoiser = Denoiser(lambda x_t, shown: torch.zeros_like(x_t), diffusion)
    >>> vlb(denoiser, torch.zeros(2, 1, 8), torch.tensor([0, 999]), torch.ones(2, 1, 8)).loss.shape
    torch.Size([2])
    """
    x_t, level = _noisy(denoiser, x0, t, noise)
    prediction = _predict(denoiser, x_t, level, own_estimate, conditioning)
    bound = vlb_term(denoiser.diffusion, prediction, x0, x_t, t, bits=bits)
    bound = bound * len(denoiser.diffusion.schedule)
    return LossTerms(bound, None, bound)


def hybrid(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    vb_weight: float = 0.001,
    space: str | None = None,
    weighting: Weighting | None = None,
    bits: int | None = 8,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    r"""Return ``simple`` plus ``vb_weight`` times ``vlb``, the bound's mean held constant.

    .. math::

        L_{\mathrm{hybrid}} = L_{\mathrm{simple}} + \lambda L_{\mathrm{vlb}}

    The gradient of the bound then reaches only the variance channels (Nichol & Dhariwal 2021,
    equation 16 with its lambda). Other arguments as in :func:`simple` and :func:`vlb`.

    Raises:
        ValueError: the variance is fixed, so that the bound would train nothing.

    >>> from iddpm import GaussianDiffusion, cosine
    >>> diffusion = GaussianDiffusion(cosine(1000), "learned_range")
    >>> denoiser = Denoiser(lambda x_t, shown: torch.zeros(len(x_t), 2, 8), diffusion)
    >>> terms = hybrid(denoiser, torch.zeros(2, 1, 8), torch.tensor([9, 999]), torch.ones(2, 1, 8))
    >>> torch.equal(terms.loss, terms.mse + terms.vb)
    True
    """
    diffusion = denoiser.diffusion
    if not diffusion.learns_variance:
        raise ValueError(
            f"the hybrid loss trains the variance, and variance={diffusion.variance!r} is fixed: "
            "use the simple loss, or variance='learned_range'"
        )
    x_t, level = _noisy(denoiser, x0, t, noise)
    prediction = _predict(denoiser, x_t, level, own_estimate, conditioning)
    mse, weight = _mse(denoiser, prediction, x0, x_t, noise, level, space, weighting)
    bound = vlb_term(diffusion, prediction.detach_mean(), x0, x_t, t, bits=bits)
    bound = bound * (vb_weight * len(diffusion.schedule))
    return LossTerms(weight * mse + bound, mse, bound)


def _predict(
    denoiser: Denoiser,
    x_t: Tensor,
    level: Level,
    own_estimate: bool,
    conditioning: dict[str, Any],
) -> Prediction:
    if own_estimate:
        with torch.no_grad():
            estimate = denoiser(x_t, level, **conditioning).x0
        # Autocast may have cached copies of the weights that have no gradient.
        torch.clear_autocast_cache()
        conditioning = {**conditioning, "estimate": estimate}
    prediction: Prediction = denoiser(x_t, level, **conditioning)
    return prediction


def _noisy(denoiser: Denoiser, x0: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Level]:
    diffusion = denoiser.diffusion
    return diffusion.q_sample(x0, t, noise), diffusion.schedule.at(t)


def _mse(
    denoiser: Denoiser,
    prediction: Prediction,
    x0: Tensor,
    x_t: Tensor,
    noise: Tensor,
    level: Level,
    space: str | None,
    weighting: Weighting | None,
) -> tuple[Tensor, Tensor]:
    """Return the mean squared errors and their weights, each [N]."""
    space = space or denoiser.prediction_type.loss_space or denoiser.predicts
    sigma_data = denoiser.sigma_data
    wanted = target(space, x0, noise, x_t, level, sigma_data)
    mse = per_item((in_space(space, prediction, x_t, level, sigma_data) - wanted) ** 2)
    if weighting is None:
        return mse, torch.ones_like(mse)
    return mse, (weighting(level) * eps_error_per(space, level, sigma_data)).to(mse)
