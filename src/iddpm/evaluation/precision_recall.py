"""Fidelity and variety apart: precision and recall, density and coverage."""

from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.evaluation.distances import CHUNK

PRECISION_NEIGHBORS = 3
"""k of precision and recall (Kynkaanniemi et al. 2019, section 2)."""
DENSITY_NEIGHBORS = 5
"""k of density and coverage (Naeem et al. 2020, section 3.3)."""

FEWEST_ITEMS = max(PRECISION_NEIGHBORS, DENSITY_NEIGHBORS) + 1
"""Samples, or real items, that have so many neighbors."""


@dataclass(frozen=True)
class Manifold:
    """How two sets of features lie in each other's neighborhoods.

    Attributes:
        precision: share of samples within a real item's ball, which reaches to its k-th neighbor.
        recall: share of real items within a sample's ball.
        density: how many real balls a sample lies in, over k; 1 is expected of real data.
        coverage: share of real items whose ball holds a sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold(
    samples: Tensor,
    real: Tensor,
    *,
    precision_neighbors: int = PRECISION_NEIGHBORS,
    density_neighbors: int = DENSITY_NEIGHBORS,
) -> Manifold:
    """Compare samples [N, d] with real items [M, d] by their nearest neighbors.

    All four depend on N and M: compare only numbers made with the same.

    Raises:
        ValueError: fewer items than neighbors.

    >>> real = torch.arange(8.0)[:, None]
    >>> same, far = manifold(real, real), manifold(real + 100, real)
    >>> same.precision, same.recall, far.precision, far.recall
    (1.0, 1.0, 0.0, 0.0)
    """
    largest = max(precision_neighbors, density_neighbors)
    if min(len(samples), len(real)) <= largest:
        raise ValueError(
            f"{largest} nearest neighbors need more than {largest} items, and there are "
            f"{len(samples)} samples and {len(real)} real items"
        )
    samples, real = samples.double().cpu(), real.double().cpu()
    sample_radius = _radii(samples, [precision_neighbors])[0]
    real_radius, density_radius = _radii(real, [precision_neighbors, density_neighbors])
    inside = balls = 0
    recalled = torch.zeros(len(real), dtype=torch.bool)
    covered = torch.zeros(len(real), dtype=torch.bool)
    for part, radius in zip(samples.split(CHUNK), sample_radius.split(CHUNK), strict=True):
        squared = squared_distances(part, real)
        inside += int((squared <= real_radius).any(dim=1).sum())
        dense = squared < density_radius  # as published; precision and recall count ties
        balls += int(dense.sum())
        covered |= dense.any(dim=0)
        recalled |= (squared <= radius[:, None]).any(dim=0)
    return Manifold(
        precision=inside / len(samples),
        recall=float(recalled.double().mean()),
        density=balls / (density_neighbors * len(samples)),
        coverage=float(covered.double().mean()),
    )


def neighbor_distances(x: Tensor, neighbor: int = PRECISION_NEIGHBORS) -> Tensor:
    """Return the distance of each row [N, d] to its k-th nearest other row, [N].

    Raises:
        ValueError: no more rows than ``neighbor``.
    """
    if len(x) <= neighbor:
        raise ValueError(f"{neighbor} nearest neighbors need more than {neighbor} items")
    return _radii(x.double().cpu(), [neighbor])[0].sqrt()


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return squared Euclidean distances [N, M] of rows [N, d] and [M, d], never below 0."""
    squares = (x**2).sum(dim=1)[:, None] + (y**2).sum(dim=1)
    return (squares - 2 * (x @ y.T)).clamp_(min=0)


def _radii(x: Tensor, neighbors: list[int]) -> list[Tensor]:
    """Return each row's squared distance to its k-th nearest other row, [N] for each k."""
    nearest = []
    for start in range(0, len(x), CHUNK):
        squared = squared_distances(x[start : start + CHUNK], x)
        rows = torch.arange(len(squared))
        squared[rows, rows + start] = torch.inf  # not its own neighbor
        nearest.append(squared.topk(max(neighbors), dim=1, largest=False).values)
    found = torch.cat(nearest)
    return [found[:, k - 1] for k in neighbors]
