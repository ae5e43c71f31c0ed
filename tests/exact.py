"""Gaussian data N(m, s**2), whose denoiser, variances and bound are known exactly."""

import math

import torch

from iddpm.diffusion import Prediction

ROOT3 = math.sqrt(3)
NODES = torch.tensor([-ROOT3, 0.0, ROOT3], dtype=torch.float64)
WEIGHTS = torch.tensor([1 / 6, 2 / 3, 1 / 6], dtype=torch.float64)
"""Gauss-Hermite with three nodes: exact for what is quadratic in data and noise."""


def gaussian_denoiser(m, s, schedule=None, variance="fixed_small"):
    """E[x0 | x_t]; with ``learned`` or ``learned_range`` also raw variance channels.

    The raw channels are those of the true variance of x_{t-1} given x_t; at step 0 of x0.
    """

    def denoise(x_t, level):
        shape = (-1, *[1] * (x_t.dim() - 1))
        alpha_bar, before = level.alpha_bar.reshape(shape), level.alpha_bar_prev.reshape(shape)
        total = alpha_bar * s**2 + 1 - alpha_bar
        x0 = m + alpha_bar.sqrt() * s**2 / total * (x_t - alpha_bar.sqrt() * m)
        eps = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        of_before = before * s**2 + 1 - before
        true = (of_before - alpha_bar / before * of_before**2 / total).log()
        raw = None
        if variance == "learned":
            raw = true.expand_as(x_t)
        if variance == "learned_range":
            at = torch.searchsorted(-schedule.alpha_bar, -level.alpha_bar)
            low = schedule.posterior_log_variance[at].reshape(true.shape)
            high = schedule.betas[at].log().reshape(true.shape)
            raw = (2 * (true - low) / (high - low) - 1).expand_as(x_t)
        return Prediction(x0, eps, raw, variance_kind=variance)

    return denoise


def eps_power(s, schedule):
    """E[eps^2] of the exact estimate: 1 - alpha_bar / (1 - alpha_bar) Var(x0 | x_t)."""
    alpha_bar = schedule.alpha_bar
    return (1 - alpha_bar) / (alpha_bar * s**2 + 1 - alpha_bar)


def quadrature(m, s):
    """Data and noise [9, 1, 1] and their weights [9]: means of quadratic functions are exact."""
    data, noise = (part.flatten() for part in torch.meshgrid(NODES, NODES, indexing="ij"))
    weights = torch.outer(WEIGHTS, WEIGHTS).flatten()
    return (m + s * data).reshape(9, 1, 1), noise.reshape(9, 1, 1), weights


def entropy_and_gap(m, s, schedule):
    """Entropy of the data and KL(q(x_T) || N(0, 1)), in bits."""
    last = float(schedule.alpha_bar[-1])
    mean, spread = math.sqrt(last) * m, last * s**2 + 1 - last
    entropy = 0.5 * math.log(2 * math.pi * math.e * s**2)
    gap = 0.5 * (spread + mean**2 - 1 - math.log(spread))
    return entropy / math.log(2), gap / math.log(2)
