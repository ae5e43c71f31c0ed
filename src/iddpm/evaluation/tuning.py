"""One number for quality and diversity together, by which samplers of one model are compared."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from iddpm.evaluation.distances import Estimate
from iddpm.evaluation.measures import Measures
from iddpm.evaluation.precision_recall import neighbor_distances

LEAST = 0.01
"""Recall, coverage and spread count as this at least."""


@dataclass(frozen=True)
class Score:
    """What decides between samplers: the distance, made larger by a lack of diversity.

    Attributes:
        distance: Frechet distance to the real data.
        error: its standard error.
        recall: share of real items that the samples reach.
        coverage: share of real items that have a sample near them.
        spread: median distance of samples to their neighbors, in that of as many real items.
    """

    distance: float
    error: float
    recall: float
    coverage: float
    spread: float

    @classmethod
    def of(cls, measures: Measures, spread: float) -> "Score":
        """Return the score of some measures."""
        recall, coverage = (measures.values[name] for name in ("recall", "coverage"))
        assert not isinstance(recall, Estimate)
        assert not isinstance(coverage, Estimate)
        found = measures.frechet
        return cls(found.value, found.error, recall, coverage, spread)

    @property
    def diversity(self) -> float:
        """The geometric mean of recall, coverage and spread; a spread above 1 counts as 1."""
        parts = (self.recall, self.coverage, min(self.spread, 1.0))
        return math.prod(max(part, LEAST) for part in parts) ** (1 / 3)

    @property
    def value(self) -> Estimate:
        """The distance over the diversity, lower is better, with the error of the distance."""
        return Estimate(self.distance / self.diversity, self.error / self.diversity)

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"diversity": self.diversity, "score": self.value._asdict()}


def spread_within(samples: Tensor, real: Tensor) -> float:
    """Return how far samples lie from their own neighbors, compared with as many real items.

    It is the ratio of the median distances to the third neighbor within each set: below 1 where
    samples are too alike within the modes of the data, which a Frechet distance does not see.

    Args:
        samples, real: features [N, d] and [M, d]; the first of the larger set are used.

    Raises:
        ValueError: fewer items than neighbors.
    """
    count = min(len(samples), len(real))
    found, expected = (
        float(neighbor_distances(features[:count]).median()) for features in (samples, real)
    )
    return found / expected if expected > 0 else 1.0
