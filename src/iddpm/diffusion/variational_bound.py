"""Likelihood: divergences, the discretized decoder and the variational bound, in bits or nats."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion.denoiser import Denoise
from iddpm.diffusion.gaussian import Gaussian, GaussianDiffusion
from iddpm.diffusion.prediction import Prediction, posterior_coefficients
from iddpm.diffusion.residual import Residual
from iddpm.diffusion.schedule import broadcast


def gaussian_kl(p: Gaussian, q: Gaussian) -> Tensor:
    """Return KL(p || q) of diagonal Gaussians, elementwise, in nats."""
    difference = p.log_variance - q.log_variance
    distance = (p.mean - q.mean) ** 2 * torch.exp(-q.log_variance)
    return 0.5 * (torch.expm1(difference) - difference + distance)


def discretized_gaussian_log_likelihood(x: Tensor, p: Gaussian, bits: int = 8) -> Tensor:
    """Return the log-probability of levels under a Gaussian, integrated over their bins, in nats.

    Levels are evenly spaced in [-1, 1]; the outermost bins extend to infinity (Ho et al. 2020,
    equation 13). It is computed in log space and float64, and therefore exact in the tails, where
    the published float32 formula has errors of several percent and ends at 1e-12. With 16 bits,
    rounding the levels to float32 alone gives errors of up to 1e-2 nats under a narrow Gaussian,
    and computing in float32 larger ones under a wide Gaussian.

    Args:
        x: data on the grid of 2**bits levels, up to rounding.
        p: mean and log-variance.
        bits: bit depth of the data, 1 to 16.
    """
    precise = torch.float32 if x.device.type == "mps" else torch.float64
    half_bin = 1 / (2**bits - 1)
    level = torch.round((x.to(precise) + 1) / (2 * half_bin))
    mean, inverse_std = p.mean.to(precise), torch.exp(-0.5 * p.log_variance.to(precise))
    center = (level * (2 * half_bin) - 1 - mean) * inverse_std
    half_width = half_bin * inverse_std
    log_p = log_normal_interval(center, half_width)
    log_p = torch.where(level >= 2**bits - 1, log_ndtr(half_width - center), log_p)
    log_p = torch.where(level <= 0, log_ndtr(half_width + center), log_p)
    return log_p.to(x.dtype)


def log_normal_interval(center: Tensor, half_width: Tensor) -> Tensor:
    """Return log(Phi(center + half_width) - Phi(center - half_width)) without cancellation.

    An interval right of 0 is mirrored to the left, where Phi is small and its logarithm is exact.
    If an interval is so narrow that Phi is equal at both ends, the density at its center is
    expanded.
    """
    center = -center.abs()
    narrow = (half_width < 1e-5) & (center * half_width > -1e-2)
    log_density = -0.5 * (math.log(2 * math.pi) + center**2)
    expanded = log_density + torch.log(2 * half_width) + (center**2 - 1) * half_width**2 / 6
    wide = torch.where(narrow, 1.0, half_width)  # keeps the branch not taken free of NaN gradients
    log_right = log_ndtr(center + wide)
    exact = log_right + torch.log(-torch.expm1(log_ndtr(center - wide) - log_right))
    return torch.where(narrow, expanded, exact)


def log_ndtr(z: Tensor) -> Tensor:
    """Return log Phi(z) with an accurate gradient in the far tail.

    The gradient of PyTorch's function has an error of 1e-4 at z = -1e6 and is infinite at -1e10.
    """
    tail = z < -10
    far = torch.where(tail, z, -10.0)
    log_far = torch.log(torch.special.erfcx(-far / math.sqrt(2)) / 2) - 0.5 * far**2
    return torch.where(tail, log_far, torch.special.log_ndtr(torch.where(tail, -10.0, z)))


def gaussian_log_density(x: Tensor, p: Gaussian) -> Tensor:
    """Return the log-density of a diagonal Gaussian, elementwise, in nats."""
    distance = (x - p.mean) ** 2 * torch.exp(-p.log_variance)
    return -0.5 * (math.log(2 * math.pi) + p.log_variance + distance)


def log_likelihood(
    x0: Tensor, p: Gaussian, bits: int | None, residual: Residual | None = None
) -> Tensor:
    """Return the log-likelihood of the data under a decoder, elementwise, in nats.

    Args:
        x0: data in [-1, 1], or its residual.
        p: the decoder of ``x0``.
        bits: bit depth of the data; None for its density.
        residual: the residual that ``x0`` and ``p`` are of, if any. Levels and densities are
            those of the data: residuals are decoded in float64, where 16 bits are exact.
    """
    if residual is not None:
        precise = torch.float32 if x0.device.type == "mps" else torch.float64
        mean = residual.decode(p.mean.to(precise))
        wider = p.log_variance.to(precise) + 2 * residual.log_scale(mean)
        there = log_likelihood(residual.decode(x0.to(precise)), Gaussian(mean, wider), bits)
        return there.to(x0.dtype)
    if bits is None:
        return gaussian_log_density(x0, p)
    return discretized_gaussian_log_likelihood(x0, p, bits)


def per_item(values: Tensor) -> Tensor:
    """Average [N, C, *spatial] over everything but the items: [N]."""
    return values.flatten(1).mean(dim=1)


def vlb_term(
    diffusion: GaussianDiffusion,
    prediction: Prediction,
    x0: Tensor,
    x_t: Tensor,
    t: Tensor,
    *,
    bits: int | None = 8,
) -> Tensor:
    """Return one term of the variational bound per item, in bits per dimension.

    KL(q(x_{t-1} | x_t, x0) || p(x_{t-1} | x_t)) for t > 0 and -log p(x0 | x_1) for t = 0
    (Nichol & Dhariwal 2021, equations 4 to 7).

    Args:
        diffusion: the process (respaced or not) of which ``t`` are steps.
        prediction: the model's prediction for ``x_t``.
        x0, x_t: data in [-1, 1], or its residual if the prediction is one of the residual, and its
            noisy version, [N, C, *spatial].
        t: [N] int64.
        bits: bit depth of the data; None for continuous data, whose decoder is a density. A
            prediction with a probability for each level is a decoder of its own.

    Returns:
        [N].
    """
    p, q = diffusion.p_posterior(prediction, x_t, t), diffusion.q_posterior(x0, x_t, t)
    if prediction.mean is None:
        # The means differ only by x0. At low noise and many bits they are a million times as large
        # as their difference, which float32 would lose.
        of_x0, _ = posterior_coefficients(diffusion.schedule.at(t))
        apart = broadcast(of_x0, x_t) * (x0 - prediction.x0)
        centered = Gaussian(torch.zeros_like(apart), p.log_variance)
        terms = per_item(gaussian_kl(Gaussian(apart, q.log_variance), centered))
    else:
        terms = per_item(gaussian_kl(q, p))
    (last,) = torch.nonzero(t == 0, as_tuple=True)
    if len(last):  # rare in training: the decoder is computed only for these items
        here = last.to(x0.device)
        p = Gaussian(p.mean[here], p.log_variance[here])
        if prediction.levels is not None:
            log_p = prediction.levels.at(last).log_prob(x0[here])
        else:
            residual = prediction.residual
            log_p = log_likelihood(x0[here], p, bits, residual and residual.at(here))
        terms = terms.index_copy(0, here, -per_item(log_p).to(terms.dtype))
    return terms / math.log(2)


def prior_term(diffusion: GaussianDiffusion, x0: Tensor) -> Tensor:
    """Return KL(q(x_T | x0) || N(0, 1)) per item [N], in bits per dimension."""
    last = diffusion.schedule.alpha_bar[-1:]
    mean = broadcast(last.sqrt(), x0) * x0
    log_variance = broadcast(torch.log1p(-last), x0)
    zero = torch.zeros_like(log_variance)
    kl = gaussian_kl(Gaussian(mean, log_variance), Gaussian(zero, zero))
    return per_item(kl) / math.log(2)


@dataclass(frozen=True, eq=False)
class BitsPerDim:
    """A likelihood bound in bits per dimension, with its parts.

    Attributes:
        total: [N], ``prior`` plus the sum of ``vb``.
        prior: [N], the divergence of the noisiest step from pure noise.
        vb: [N, T], the bound's terms from the noisiest step to the decoder (last column).
        x0_mse, eps_mse: [N, T], mean squared errors of the estimates of data and noise.

    >>> bound = BitsPerDim(
    ...     total=torch.ones(2), prior=torch.zeros(2), vb=torch.full((2, 4), 0.25),
    ...     x0_mse=torch.zeros(2, 4), eps_mse=torch.zeros(2, 4),
    ... )
    >>> torch.equal(bound.total, bound.prior + bound.vb.sum(dim=1))
    True
    """

    total: Tensor
    prior: Tensor
    vb: Tensor
    x0_mse: Tensor
    eps_mse: Tensor


@torch.no_grad()
def bits_per_dim(
    diffusion: GaussianDiffusion,
    denoise: Denoise,
    x0: Tensor,
    *,
    noise: Callable[[int], Tensor] | None = None,
    clip: bool = True,
    bits: int | None = 8,
    **conditioning: Any,
) -> BitsPerDim:
    r"""Measure the variational bound of a whole process on the data ``x0``.

    .. math::

        L = D_{KL}(q(x_T | x_0)\, \Vert\, N(0, 1))
        + \sum_{t > 1} D_{KL}(q(x_{t-1} | x_t, x_0)\, \Vert\, p_\theta(x_{t-1} | x_t))
        - \log p_\theta(x_0 | x_1)

    Args:
        diffusion: the process, respaced or not.
        denoise: the model.
        x0: [N, C, *spatial] in [-1, 1].
        noise: a function of the step number, counted from the noisiest, that returns the forward
            noise; by default fresh normal noise at every step.
        clip: clip the estimate of x0 to [-1, 1].
        bits: bit depth of the data; None for continuous data (a bound on the density).
        conditioning: passed to ``denoise``.

    >>> from iddpm import Denoiser, cosine
    >>> diffusion = GaussianDiffusion(cosine(10), "fixed_small")
    >>> denoiser = Denoiser(lambda x_t, shown: torch.zeros_like(x_t), diffusion)
    >>> bound = bits_per_dim(diffusion, denoiser, torch.zeros(2, 1, 8))
    >>> bound.total.shape, bound.vb.shape
    (torch.Size([2]), torch.Size([2, 10]))
    """
    vb, x0_mse, eps_mse = [], [], []
    for number, step in enumerate(reversed(range(len(diffusion.schedule)))):
        t = torch.full((len(x0),), step)
        level = diffusion.schedule.at(t)
        eps = torch.randn_like(x0) if noise is None else noise(number)
        x_t = diffusion.q_sample(x0, t, eps)
        prediction = denoise(x_t, level, **conditioning)
        if clip:
            prediction = prediction.clipped(x_t, level)
        vb.append(vlb_term(diffusion, prediction, x0, x_t, t, bits=bits))
        x0_mse.append(per_item((prediction.x0 - x0) ** 2))
        eps_mse.append(per_item((prediction.eps - eps) ** 2))
    terms, prior = torch.stack(vb, dim=1), prior_term(diffusion, x0)
    total = prior + terms.sum(dim=1)
    return BitsPerDim(total, prior, terms, torch.stack(x0_mse, 1), torch.stack(eps_mse, 1))
