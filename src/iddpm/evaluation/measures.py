"""All measures of one set of features against the reference."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from iddpm.evaluation.distances import Estimate
from iddpm.evaluation.feature_sets import FeatureSets
from iddpm.evaluation.metrics import METRICS
from iddpm.evaluation.reference import PAIRS, Reference, evenly
from iddpm.evaluation.whitening import Whitening

FEWEST = 2048
"""Number of items below which the Frechet distance is mostly bias (and 10 per feature)."""

FEW_NEIGHBORS = 100
"""Number of items below which the k-th neighbor is far away and the balls cover everything."""


@dataclass(frozen=True)
class Measures:
    """Measures of ``count`` items against a reference.

    Attributes:
        count: items that were measured.
        real: real items that metrics over pairs were computed with.
        values: by the names of :data:`iddpm.evaluation.metrics.METRICS`.
    """

    count: int
    real: int
    values: Mapping[str, Estimate | float]

    @property
    def frechet(self) -> Estimate:
        """The Frechet distance."""
        return self._estimate("frechet_distance")

    @property
    def kernel(self) -> Estimate:
        """The squared kernel distance."""
        return self._estimate("kernel_distance")

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        values = {
            name: value._asdict() if isinstance(value, Estimate) else value
            for name, value in self.values.items()
        }
        return {"count": self.count, "compared_with": self.real, **values}

    def _estimate(self, name: str) -> Estimate:
        value = self.values[name]
        return value if isinstance(value, Estimate) else Estimate(value, math.nan)


def measure(
    features: Tensor, reference: Reference, pairs: int, *, whiten: bool = False, beside: int = 0
) -> Measures:
    """Compare features [N, d] with the reference by every metric, over ``pairs`` of its items.

    ``whiten`` first brings all features into units of the reference's spread. The last ``beside``
    features are for the neighbors alone: both distances leave them out.

    Raises:
        ValueError: too few items to have neighbors, or features of another size.

    >>> import torch
    >>> features = torch.arange(16.0)[:, None]
    >>> measures = measure(features, Reference.of(features, {}), pairs=16)
    >>> round(abs(measures.frechet.value), 4), measures.values["recall"]
    (0.0, 1.0)
    """
    if whiten:
        white = Whitening.of(reference.stats)
        features = white(features)
        reference = replace(
            reference, stats=white.stats(reference.stats), features=white(reference.features)
        )
    size = features.shape[1] - beside
    stats = reference.stats
    compared = FeatureSets(
        features[:, :size],
        replace(stats, mean=stats.mean[:size], covariance=stats.covariance[:size, :size]),
        features[evenly(len(features), PAIRS)],
        reference.features[evenly(len(reference.features), pairs)],
        beside,
    )
    values = {name: metric.compute(compared) for name, metric in METRICS.items()}
    return Measures(len(features), len(compared.real), values)


def warn_of_small_numbers(count: int, size: int) -> list[str]:
    """Return warnings about a Frechet distance of ``count`` items in ``size`` numbers."""
    needed = max(10 * size, FEWEST)
    if count >= needed:
        return []
    return [
        f"{count} items are few for {size} features: the Frechet distance is biased upwards and "
        f"uncertain; use {needed} or more, and compare only numbers of the same count"
    ]


def warn_of_few_neighbors(count: int, real: int) -> list[str]:
    """Return warnings about precision to coverage of few samples or real items."""
    if min(count, real) >= FEW_NEIGHBORS:
        return []
    return [
        (
            f"precision, recall, density and coverage of {count} samples among {real} real items "
            f"are meaningless: their neighbors are far apart; use {FEW_NEIGHBORS} or more of both"
        )
    ]


@dataclass(frozen=True)
class Accuracy:
    """How often a classifier predicts the requested class.

    Attributes:
        overall: share of all items, with its standard error.
        per_class: share by class name, NaN left out.
    """

    overall: Estimate
    per_class: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {"overall": self.overall._asdict(), "per_class": self.per_class}


def class_accuracy(logits: Tensor, y: Tensor, names: tuple[str, ...]) -> Accuracy:
    """Compare logits [N, K] with the requested classes [N].

    Raises:
        ValueError: classes that the classifier does not know, or another number of them.

    >>> import torch
    >>> logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    >>> accuracy = class_accuracy(logits, torch.tensor([0, 1, 1, 1]), ("cat", "dog"))
    >>> accuracy.overall.value, {k: round(v, 2) for k, v in accuracy.per_class.items()}
    (0.75, {'cat': 1.0, 'dog': 0.67})
    """
    if y.shape != logits.shape[:1]:
        raise ValueError(f"{len(y)} labels were given for {len(logits)} items")
    if len(names) != logits.shape[1] or not 0 <= int(y.min()) <= int(y.max()) < len(names):
        raise ValueError(
            f"labels run from {int(y.min())} to {int(y.max())}, and the classifier has "
            f"{len(names)} classes"
        )
    right = (logits.argmax(dim=1) == y).double()
    share = float(right.mean())
    error = (share * (1 - share) / len(y)) ** 0.5
    per_class = {
        name: float(right[y == k].mean()) for k, name in enumerate(names) if bool((y == k).any())
    }
    return Accuracy(Estimate(share, error), per_class)
