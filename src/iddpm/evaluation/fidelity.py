"""How near data is to the truth that it stands for."""

import math

import torch
from torch import Tensor

from iddpm.evaluation.distances import Estimate

LEAST_ERROR = 1e-12
"""Smallest mean squared error that is distinguished; float32 has none between this and 0."""


def psnr(x: Tensor, truth: Tensor) -> Estimate:
    """Return the peak signal-to-noise ratio in decibels: 10 log10(4 / error), higher is nearer.

    The error is the mean square over all items, each [C, *spatial], of values clamped to [-1, 1];
    a mean of the items' decibels would follow the emptiest of them, which may be exact. Its
    standard error is that of the items' errors, by the logarithm's slope.

    >>> import torch
    >>> truth = torch.zeros(4, 1, 8, 8)
    >>> round(psnr(truth + 0.2, truth).value, 2)
    20.0
    """
    return psnr_of_errors(squared_errors(x, truth))


def squared_errors(x: Tensor, truth: Tensor) -> Tensor:
    """Return the mean squared error of each item, float64 [N]; values are clamped to [-1, 1]."""
    return _squares(x, truth).flatten(1).mean(dim=1)


def psnr_of_errors(errors: Tensor) -> Estimate:
    """Return the ratio of :func:`psnr` from the items' mean squared errors [N]."""
    mean = max(float(errors.mean()), LEAST_ERROR)
    spread = float(errors.std()) if len(errors) > 1 else math.nan
    slope = 10 / math.log(10) / mean
    return Estimate(10 * math.log10(4 / mean), slope * spread / math.sqrt(len(errors)))


def psnr_of_all(x: Tensor, truth: Tensor) -> float:
    """Return the same of tensors of any shape as a number, infinite where they are equal."""
    return float(10 * torch.log10(4 / _squares(x, truth).mean()))


def _squares(x: Tensor, truth: Tensor) -> Tensor:
    return (x.clamp(-1, 1).double() - truth.double()).square()
