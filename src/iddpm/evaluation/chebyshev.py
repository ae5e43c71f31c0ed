"""A smooth function known at a few points, evaluated anywhere between them."""

import math

import torch
from torch import Tensor


def chebyshev_points(low: float, high: float, count: int) -> Tensor:
    """Return ``count`` points in (low, high), float64, at which to know a smooth function.

    A polynomial through its values there is near the best one of its degree; for functions like
    exp(-a x) the error falls faster than any power of ``count`` (Trefethen 2013, chapters 4 and 8).
    """
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    return (low + high) / 2 + (high - low) / 2 * torch.cos(angles)


def interpolation(points: Tensor, wanted: Tensor) -> Tensor:
    """Return the matrix [M, R] that takes values at Chebyshev points [R] to those at other points.

    The barycentric formula (Berrut & Trefethen 2004, equation 4.2), which loses no digits.
    """
    count = len(points)
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    sign = 1 - 2 * (torch.arange(count) % 2).double()
    distance = wanted[:, None] - points
    hit = distance == 0
    weights = sign * torch.sin(angles) / torch.where(hit, 1.0, distance)
    weights = torch.where(hit.any(dim=1, keepdim=True), hit.double(), weights)
    return weights / weights.sum(dim=1, keepdim=True)
