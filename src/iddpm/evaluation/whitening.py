"""Features in units of their own spread over real data."""

from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.evaluation.distances import FrechetStats

FLOOR = 1e-8
"""Directions with less than this share of the largest variance are left out: they are rounding."""


@dataclass(frozen=True, eq=False)
class Whitening:
    """A linear map after which features of real data have covariance I.

    A classifier's features are mostly the class itself: nine directions hold nearly all variance
    of ten digits' features, so distances between them say how often each digit was drawn and
    little of how it looks. Whitened, all directions count alike, and it does not matter how the
    network happens to scale them.

    Attributes:
        mean: [d] float64.
        directions: [d, k] float64, each divided by the standard deviation along it.
    """

    mean: Tensor
    directions: Tensor

    @classmethod
    def of(cls, stats: FrechetStats) -> "Whitening":
        """Take the map from statistics of real features; ValueError where they do not vary."""
        variances, vectors = torch.linalg.eigh(stats.covariance)
        kept = variances > FLOOR * variances[-1]
        if not bool(kept.any()):
            raise ValueError("features that are the same for all items cannot be compared")
        return cls(stats.mean, vectors[:, kept] / variances[kept].sqrt())

    def __call__(self, features: Tensor) -> Tensor:
        """Map features [N, d] to [N, k], float64."""
        mapped: Tensor = (features.double() - self.mean) @ self.directions
        return mapped

    def stats(self, stats: FrechetStats) -> FrechetStats:
        """Map statistics as their features would be mapped."""
        covariance = self.directions.T @ stats.covariance @ self.directions
        mean = (stats.mean - self.mean) @ self.directions
        return FrechetStats(mean, covariance, stats.count)
