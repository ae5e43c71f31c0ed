"""What is measured of two sets of features: a table with a row for each metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from iddpm.evaluation.distances import (
    Estimate,
    FrechetStats,
    frechet_estimate,
    kernel_distance,
)
from iddpm.evaluation.precision_recall import Manifold, manifold


@dataclass(frozen=True, eq=False)
class Comparison:
    """Features of items and of real data, as metrics take them.

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


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        title: in reports.
        better: ``"lower"``, ``"higher"`` or ``"near 1"``.
        compute: the number, with its standard error over the items where one is known.
        scale: what reports for people multiply it by; the title says so.
    """

    title: str
    better: str
    compute: Callable[[Comparison], Estimate | float]
    scale: float = 1


METRICS: Mapping[str, Metric] = {
    "frechet_distance": Metric(
        "Frechet distance", "lower", lambda c: frechet_estimate(c.features, c.stats)
    ),
    "kernel_distance": Metric(
        "kernel distance x 1000",
        "lower",
        lambda c: kernel_distance(c.directions(c.some), c.directions(c.real)),
        scale=1000,
    ),
    "precision": Metric("precision", "higher", lambda c: c.manifold.precision),
    "recall": Metric("recall", "higher", lambda c: c.manifold.recall),
    "density": Metric("density", "near 1", lambda c: c.manifold.density),
    "coverage": Metric("coverage", "higher", lambda c: c.manifold.coverage),
}
"""By the name that it has in ``report.json``."""
