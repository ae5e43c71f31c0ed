"""Structural similarity, in one, two and three dimensions."""

import torch
from torch import Tensor

from iddpm.evaluation.distances import Estimate

SIGMA = 1.5
"""Standard deviation of the window, in positions (Wang et al. 2004)."""
TAPS = 11
"""Its length; along a shorter axis the longest odd length that fits."""
RANGE = 2.0
"""Of levels from 0 on, for data in [-1, 1]."""
_C1, _C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2


def ssim(x: Tensor, truth: Tensor) -> Estimate:
    """Return the mean structural similarity, at most 1: higher is nearer.

    Arguments and source are those of :func:`similarities`.

    >>> truth = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    >>> round(ssim(truth, truth).value, 4), ssim(truth.flip(2), truth).value < 0.5
    (1.0, True)
    """
    return Estimate.of_mean(similarities(x, truth))


def similarities(x: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity of each item, float64 [N], at most 1.

    Means, variances and covariances are those within a Gaussian window, at every place where it
    lies within the data, of each channel by itself. Values are compared as levels from 0 on, as
    every library does with pictures: the measure depends on where 0 is.

    Args:
        x, truth: [N, C, *spatial] with one to three axes of space; clamped to [-1, 1].

    Source: Wang, Bovik, Sheikh & Simoncelli 2004, equation 13.
    """
    a, b = x.clamp(-1, 1).double() + 1, truth.double() + 1
    mean_a, mean_b = _blurred(a), _blurred(b)
    var_a = (_blurred(a * a) - mean_a**2).clamp(min=0)
    var_b = (_blurred(b * b) - mean_b**2).clamp(min=0)
    both = _blurred(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    alike = alike * (2 * both + _C2) / (var_a + var_b + _C2)
    return alike.flatten(1).mean(dim=1)


def _blurred(x: Tensor) -> Tensor:
    """Return [N, C, *spatial] averaged in the window, axis by axis, where that lies within."""
    for axis in range(2, x.dim()):
        size = x.shape[axis]
        taps = min(TAPS, size - 1 + size % 2)
        place = torch.arange(taps, dtype=x.dtype, device=x.device) - (taps - 1) / 2
        weights = torch.exp(-0.5 * (place / SIGMA) ** 2)
        x = x.unfold(axis, taps, 1) @ (weights / weights.sum())
    return x
