"""What is measured of two sets of features: a table with a row for each metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from iddpm.evaluation.distances import Estimate, frechet_estimate, kernel_distance
from iddpm.evaluation.feature_sets import FeatureSets


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
    compute: Callable[[FeatureSets], Estimate | float]
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
