"""Distances between two sets of features: Frechet's and the kernel distance."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

JACKKNIFE_GROUPS = 20
CHUNK = 1024
"""Rows that are compared at a time: memory is CHUNK times the number of columns."""


class Estimate(NamedTuple):
    """A number and its standard error over the samples."""

    value: float
    error: float

    @classmethod
    def of_mean(cls, values: Tensor) -> "Estimate":
        """Return the mean of items' values [N]."""
        spread = float(values.std()) if len(values) > 1 else math.nan
        return cls(float(values.mean()), spread / math.sqrt(len(values)))


@dataclass(frozen=True, eq=False)
class FrechetStats:
    """The Gaussian that stands for a set of features.

    Attributes:
        mean: [d] float64.
        covariance: [d, d] float64, unbiased (divided by count - 1).
        count: how many features there were.

    >>> stats = FrechetStats.from_features(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
    >>> stats.count, stats.mean.tolist(), stats.covariance.tolist()
    (2, [1.0, 2.0], [[2.0, 4.0], [4.0, 8.0]])
    """

    mean: Tensor
    covariance: Tensor
    count: int

    @classmethod
    def from_features(cls, features: Tensor) -> "FrechetStats":
        """Measure features [N, d]; ValueError unless they are finite and two or more."""
        return cls.from_moments(Moments.of(features))

    @classmethod
    def from_moments(cls, moments: "Moments") -> "FrechetStats":
        """Turn sums into a mean and a covariance."""
        count = moments.count
        if count < 2:
            raise ValueError(f"a covariance needs at least two features, not {count}")
        mean = moments.total / count
        covariance = (moments.products - count * torch.outer(mean, mean)) / (count - 1)
        return cls(moments.shift + mean, (covariance + covariance.T) / 2, count)


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over features that can be added and taken away, about a shift that keeps them exact.

    Attributes:
        shift: [d] float64, taken from every feature.
        total: [d], the sum.
        products: [d, d], the sum of outer products.
        count: how many.
    """

    shift: Tensor
    total: Tensor
    products: Tensor
    count: int

    @classmethod
    def of(cls, features: Tensor, shift: Tensor | None = None) -> "Moments":
        """Sum features [N, d]; the shift is their mean unless it is given."""
        x = _checked(features)
        shift = x.mean(dim=0) if shift is None else shift
        x = x - shift
        return cls(shift, x.sum(dim=0), x.T @ x, len(x))

    def __sub__(self, other: "Moments") -> "Moments":
        """Take away features that were among these."""
        return Moments(
            self.shift,
            self.total - other.total,
            self.products - other.products,
            self.count - other.count,
        )


def frechet_distance(a: FrechetStats, b: FrechetStats) -> float:
    r"""Return the squared Frechet distance of two Gaussians (Dowson & Landau 1982, equation 4).

    .. math::

        \lvert m_a - m_b \rvert^2
        + \mathrm{tr}\left(S_a + S_b - 2 (S_a S_b)^{1/2}\right)

    It has the unit of the features squared.
    The trace of the root is the sum of the singular values of ``S_a^(1/2) S_b^(1/2)``, which stays
    real and accurate where the covariances are singular.

    Raises:
        ValueError: features of another size.

    >>> a, b = (FrechetStats.from_features(torch.eye(3) + shift) for shift in (0, 1))
    >>> round(frechet_distance(a, b), 3)
    3.0
    """
    return _frechet(a, b, _root(b.covariance))


def frechet_estimate(features: Tensor, reference: FrechetStats) -> Estimate:
    """Return the Frechet distance of features [N, d] and its standard error over the samples.

    The error is the jackknife's over groups of samples (Efron & Stein 1981); the reference is
    taken as exact. The distance's bias, which falls as 1 / N, is left in, as everywhere.

    >>> reference = FrechetStats.from_features(torch.eye(3))
    >>> round(frechet_estimate(torch.eye(3) + 1, reference).value, 3)
    3.0
    """
    x = _checked(features)
    _same_size(x.shape[1], len(reference.mean))
    root = _root(reference.covariance)
    if len(x) <= x.shape[1]:  # the features have fewer numbers than their covariance
        distance = partial(_frechet_of_few, x, reference=reference, root=root)
    else:
        distance = partial(_frechet_of_many, x, Moments.of(x), reference=reference, root=root)
    value = distance(torch.zeros(len(x), dtype=torch.bool))
    groups = min(JACKKNIFE_GROUPS, len(x) // 2)
    if groups < 2:
        return Estimate(value, math.nan)
    places = torch.arange(len(x)) % groups
    return Estimate(value, jackknife_error([distance(places == k) for k in range(groups)]))


def _frechet_of_many(
    x: Tensor, whole: "Moments", left_out: Tensor, *, reference: FrechetStats, root: Tensor
) -> float:
    """Return the distance of features without some, [N] bool, by way of their sums."""
    rest = whole
    if bool(left_out.any()):
        rest = whole - Moments.of(x[left_out], whole.shift)
    return _frechet(FrechetStats.from_moments(rest), reference, root)


def _frechet_of_few(x: Tensor, left_out: Tensor, *, reference: FrechetStats, root: Tensor) -> float:
    """Return the same without a covariance: its root may be any matrix whose square it is."""
    kept = x[~left_out]
    if len(kept) < 2:
        raise ValueError(f"a covariance needs at least two features, not {len(kept)}")
    mean = kept.mean(dim=0)
    scaled = (kept - mean) / math.sqrt(len(kept) - 1)
    cross = torch.linalg.svdvals(scaled @ root).sum()
    gap = ((mean - reference.mean) ** 2).sum()
    return float(gap + scaled.square().sum() + reference.covariance.trace() - 2 * cross)


def jackknife_error(left_out: Sequence[float] | Tensor) -> float:
    """Return the standard error from the values with each of the equal groups left out."""
    values = torch.as_tensor(left_out, dtype=torch.float64)
    groups = len(values)
    return float(((groups - 1) / groups * ((values - values.mean()) ** 2).sum()).sqrt())


def kernel_distance(x: Tensor, y: Tensor) -> Estimate:
    """Return the unbiased squared MMD of two sets of features under a cubic kernel, and its error.

    The kernel is ``(x . y / d + 1)^3``: the kernel inception distance of Binkowski et al. 2018 when
    the features are Inception's. All pairs are used, where the paper averages over random subsets;
    the expected value is the same. The error is the jackknife's over the items of both sets.

    Args:
        x: [N, d].
        y: [M, d]; both two or more, so that no item is compared with itself.

    Raises:
        ValueError: too few features, of another size, or not finite.

    >>> kernel_distance(torch.zeros(4, 1), torch.ones(4, 1)).value
    7.0
    """
    x, y = _checked(x), _checked(y)
    _same_size(x.shape[1], y.shape[1])
    n, m = len(x), len(y)
    if min(n, m) < 2:
        raise ValueError(f"the kernel distance needs at least 2 features, not {min(n, m)}")
    xx, xy = _kernel_sums(x, x), _kernel_sums(x, y)
    yy, yx = _kernel_sums(y, y), _kernel_sums(y, x)
    xx, yy = xx - _kernel(x, x), yy - _kernel(y, y)
    value = xx.sum() / (n * (n - 1)) + yy.sum() / (m * (m - 1)) - 2 * xy.sum() / (n * m)
    variance = 0.0
    for own, cross, count, other in ((xx, xy, n, m), (yy, yx, m, n)):
        if count < 3:
            return Estimate(float(value), math.nan)
        # The statistic without one item: only the sums that it is part of change.
        within = (own.sum() - 2 * own) / ((count - 1) * (count - 2))
        between = (cross.sum() - cross) / ((count - 1) * other)
        variance += jackknife_error(within - 2 * between) ** 2
    return Estimate(float(value), math.sqrt(variance))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return the kernel of each pair of rows."""
    return ((x * y).sum(dim=-1) / x.shape[-1] + 1) ** 3


def _kernel_sums(x: Tensor, y: Tensor) -> Tensor:
    """Return for each row of ``x`` the sum of the kernel with all rows of ``y``."""
    d = x.shape[1]
    return torch.cat([((part @ y.T / d + 1) ** 3).sum(dim=1) for part in x.split(CHUNK)])


def _frechet(a: FrechetStats, b: FrechetStats, root_b: Tensor) -> float:
    _same_size(len(a.mean), len(b.mean))
    cross = torch.linalg.svdvals(_root(a.covariance) @ root_b).sum()
    gap = ((a.mean - b.mean) ** 2).sum()
    return float(gap + a.covariance.trace() + b.covariance.trace() - 2 * cross)


def _root(covariance: Tensor) -> Tensor:
    """Return the symmetric root of a covariance; eigenvalues below 0 are rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def _checked(features: Tensor) -> Tensor:
    """Return features [N, d] in float64 on the CPU."""
    if features.dim() != 2 or not len(features):
        raise ValueError(f"features are [N, d] with N of 1 or more, not {list(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError("features hold NaN or infinity")
    return features.detach().to(device="cpu", dtype=torch.float64)


def _same_size(a: int, b: int) -> None:
    if a != b:
        raise ValueError(
            f"features of size {a} and of size {b} cannot be compared: take both from one extractor"
        )
