"""Features of items and of real data, as metrics compare them."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from iddpm.evaluation.distances import FrechetStats
from iddpm.evaluation.precision_recall import Manifold, manifold


@dataclass(frozen=True, eq=False)
class FeatureSets:
    """What a metric is computed from.

    Attributes:
        features: of all items, [N, d].
        stats: the mean and covariance of all real features, of size d.
        some: of at most as many items as metrics over pairs take, [n, d + beside].
        real: of real items, [m, d + beside].
        beside: the last features of ``some`` and ``real``, for metrics of neighbors alone.
    """

    features: Tensor
    stats: FrechetStats
    some: Tensor
    real: Tensor
    beside: int = 0

    @cached_property
    def manifold(self) -> Manifold:
        """Precision, recall, density and coverage, computed together."""
        return manifold(self.some, self.real)

    def directions(self, features: Tensor) -> Tensor:
        """Return features [n, d + beside] without those for neighbors."""
        return features[:, : features.shape[1] - self.beside]
