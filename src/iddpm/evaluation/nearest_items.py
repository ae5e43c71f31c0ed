"""Is it learned or learned by heart? The nearest training items of samples."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor

from iddpm.evaluation.precision_recall import squared_distances
from iddpm.runtime.processes import ALONE, Ranks

QUANTILE = 0.05
"""Share of held-out items that counts as near to the training set."""
FEWEST_HELD_OUT = 50
"""Fewer held-out items say nothing about that quantile."""
DEVIATIONS = 4
"""How many standard errors above the expected share are more than chance."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """The nearest training items of each query, two or more.

    Attributes:
        distances: [N, K], root mean squared difference of the values, rising.
        items: [N, K] int64, their positions in the training items.
    """

    distances: Tensor
    items: Tensor

    @property
    def distance(self) -> Tensor:
        """[N], the distance to the nearest."""
        return self.distances[:, 0]

    @property
    def ratio(self) -> Tensor:
        """[N], that distance over the one to the second nearest; 1 where both are 0."""
        first, second = self.distances[:, 0], self.distances[:, 1]
        return torch.where(second > 0, first / second.clamp(min=1e-300), 1.0)

    @property
    def item(self) -> Tensor:
        """[N] int64, the position of the nearest."""
        return self.items[:, 0]


class NearestSearch:
    """Look for the nearest of many training items that are shown batch by batch.

    Args:
        queries: [N, C, *spatial] in [-1, 1].
        count: how many of each query are kept, 2 or more.
    """

    def __init__(self, queries: Tensor, count: int = 2) -> None:
        self._queries = queries.flatten(1).float().cpu()
        self._squared = torch.full((len(queries), count), torch.inf)
        self._items = torch.zeros((len(queries), count), dtype=torch.int64)
        self._seen = 0

    def add(self, batch: Tensor, start: int) -> None:
        """Show training items [M, C, *spatial] in [-1, 1], the first of them number ``start``."""
        values = batch.flatten(1).float().cpu()
        numbers = torch.arange(start, start + len(values)).expand(len(self._queries), -1)
        self._keep(squared_distances(self._queries, values), numbers, len(values))

    def join(self, ranks: Ranks) -> None:
        """Take in what other ranks found for the same queries among other training items."""
        found = ranks.gathered((self._squared, self._items, self._seen))
        for squared, items, seen in found[: ranks.rank] + found[ranks.rank + 1 :]:
            self._keep(squared, items, seen)

    def _keep(self, squared: Tensor, items: Tensor, seen: int) -> None:
        squared = torch.cat([self._squared, squared], dim=1)
        items = torch.cat([self._items, items], dim=1)
        self._squared, places = squared.topk(self._squared.shape[1], dim=1, largest=False)
        self._items = items.gather(1, places)
        self._seen += seen

    def nearest(self) -> Nearest:
        """Return what was found; ValueError when fewer items were shown than are kept."""
        count = self._squared.shape[1]
        if self._seen < count:
            raise ValueError(f"a nearest neighbor needs at least {count} items, not {self._seen}")
        distances = (self._squared.double() / self._queries.shape[1]).sqrt()
        return Nearest(distances, self._items)


class Limits(NamedTuple):
    """What one in twenty held-out items falls below; others are near, and copies, by chance."""

    distance: float
    ratio: float

    @classmethod
    def of(cls, held_out: Nearest) -> Self | None:
        """Return the limits by held-out items; None when those are too few to judge by."""
        if len(held_out.distance) < FEWEST_HELD_OUT:
            return None
        quantiles = (x.quantile(QUANTILE) for x in (held_out.distance, held_out.ratio))
        return cls(*map(float, quantiles))

    def near(self, samples: Nearest) -> Tensor:
        """Return which samples [N] are nearer to their training item than held-out items are."""
        return samples.distance < self.distance

    def copies(self, samples: Nearest) -> Tensor:
        """Return which of them [N] are, by as rare a margin, nearer to it than to the next."""
        return self.near(samples) & (samples.ratio < self.ratio)


@dataclass(frozen=True)
class Memorization:
    """Whether samples repeat training items, judged by how near held-out items come to them.

    Attributes:
        near: share of samples nearer to their training item than the nearest 5 % of held-out
            items; 0.05 is expected, and more also of a model that draws what is typical.
        copies: share of samples that are near and, by as rare a margin, nearer to that one item
            than to the next: copies of an item, not merely typical.
        limit: the share of copies that chance would not exceed.
        flagged: copies > limit.
    """

    near: float
    copies: float
    limit: float
    flagged: bool


def memorization(samples: Nearest, held_out: Nearest) -> Memorization | None:
    """Judge samples by held-out items; None when those are too few to judge by."""
    limits = Limits.of(held_out)
    if limits is None:
        return None
    n, m = len(samples.distance), len(held_out.distance)
    near, copies = limits.near(samples), float(limits.copies(samples).double().mean())
    # The quantile itself is uncertain, hence the held-out items' own share of the variance.
    error = math.sqrt(QUANTILE * (1 - QUANTILE) * (1 / n + 1 / m))
    limit = QUANTILE + DEVIATIONS * error
    return Memorization(float(near.double().mean()), copies, limit, copies > limit)


def search(
    queries: Iterable[Tensor],
    training: Iterable[tuple[int, Tensor]],
    ranks: Ranks = ALONE,
    count: int = 2,
) -> list[Nearest]:
    """Return the nearest training items of several sets of queries in one pass.

    Args:
        queries: each [N, C, *spatial] in [-1, 1].
        training: the number of a batch's first item, and the batch.
        ranks: who shares the work; each has all queries and its own batches.
        count: how many training items of each query, 2 or more.
    """
    searches = [NearestSearch(each, count) for each in queries]
    with ranks.together():
        for start, batch in training:
            for each in searches:
                each.add(batch, start)
    for each in searches:
        each.join(ranks)
    with ranks.together():
        return [each.nearest() for each in searches]
