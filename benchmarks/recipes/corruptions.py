"""How good a judge is: items damaged more and more have to be farther and farther from the data."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from iddpm.evaluation.distances import FrechetStats, frechet_distance
from iddpm.evaluation.reference import Reference
from iddpm.evaluation.whitening import Whitening

Features = Callable[[Tensor], Tensor]


def blurred(x: Tensor, sigma: float) -> Tensor:
    """Return items [N, C, *spatial] blurred by a Gaussian of ``sigma`` positions."""
    radius = max(round(3 * sigma), 1)
    at = torch.arange(-radius, radius + 1.0)
    kernel = torch.exp(-(at**2) / (2 * sigma**2))
    kernel /= kernel.sum()
    for axis in range(2, x.dim()):
        rows = x.movedim(axis, -1)
        padded = F.pad(rows.reshape(-1, 1, rows.shape[-1]), (radius, radius), mode="replicate")
        x = F.conv1d(padded, kernel[None, None]).reshape(rows.shape).movedim(-1, axis)
    return x


def noisy(x: Tensor, share: float) -> Tensor:
    """Return items with noise whose standard deviation is a share of their own."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(x.shape, generator=generator)
    return (x + share * x.std() * noise).clamp(-1, 1)


def shuffled(x: Tensor, parts: float) -> Tensor:
    """Return items cut into ``parts`` along each axis, the pieces of each item permuted."""
    count, channels, *size = x.shape
    pieces = int(parts)
    cut = [n - n % pieces for n in size]
    inner = x[(slice(None), slice(None), *(slice(n) for n in cut))]
    shape = [n for length in cut for n in (pieces, length // pieces)]
    axes = list(range(2, 2 + len(shape)))
    order = [*axes[::2], 1, *axes[1::2]]  # pieces first, then what is inside each
    inner = inner.reshape(count, channels, *shape).permute(0, *order)
    grid = inner.shape[1 : 1 + len(size)]
    flat = inner.flatten(1, len(size))
    generator = torch.Generator().manual_seed(0)
    places = torch.rand(count, flat.shape[1], generator=generator).argsort(dim=1)
    mixed = flat[torch.arange(count)[:, None], places].unflatten(1, grid)
    back = [0, *(order.index(axis) + 1 for axis in range(1, 2 + len(shape)))]
    result = x.clone()
    result[(slice(None), slice(None), *(slice(n) for n in cut))] = mixed.permute(back).reshape(
        count, channels, *cut
    )
    return result


CORRUPTIONS: Mapping[str, tuple[Callable[[Tensor, float], Tensor], Sequence[float]]] = {
    "blur": (blurred, (0.5, 1.0, 2.0)),
    "noise": (noisy, (0.1, 0.2, 0.4)),
    "shuffle": (shuffled, (2, 4, 8)),
}
"""Each with its amounts, from little to much: positions, a share of the spread, pieces per axis."""


def ratios(features: Features, x: Tensor, reference: Reference) -> dict[str, list[float]]:
    """Return the Frechet distances of damaged items over that of the items, whitened.

    Args:
        features: of the judge.
        x: held-out items [N, C, *spatial] in [-1, 1].
        reference: of training items under these features.
    """
    white = Whitening.of(reference.stats)
    real = white.stats(reference.stats)

    def distance(items: Tensor) -> float:
        return frechet_distance(FrechetStats.from_features(white(features(items))), real)

    whole = distance(x)
    return {
        name: [round(distance(damage(x, amount)) / whole, 3) for amount in amounts]
        for name, (damage, amounts) in CORRUPTIONS.items()
    }


def rises(found: Mapping[str, Sequence[float]]) -> bool:
    """Say whether each corruption moves items away, and more of it farther."""
    return all(list(row) == sorted(row) and row[0] > 1 for row in found.values())


def retrieval(features: Features, x: Tensor, damaged: Tensor) -> float:
    """Return how often the nearest of N items [N, ...] to a view of one is that item.

    Features are compared by the cosine of what is left after their mean over the items.
    """
    a, b = (features(items).double() for items in (x, damaged))
    mean = a.mean(dim=0)
    a, b = F.normalize(a - mean, dim=1), F.normalize(b - mean, dim=1)
    return float(((b @ a.T).argmax(dim=1) == torch.arange(len(a))).double().mean())
