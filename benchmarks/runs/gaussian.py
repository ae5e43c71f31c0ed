"""Gaussian models to compare with: one with the data's spectrum, one with its main directions."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, LowRankMultivariateNormal, MultivariateNormal

from benchmarks.runs.common import Other

CHUNK = 256
RANKS = (4, 8, 16, 32, 64, 128, 256, 512)


def stationary(x: Tensor) -> MultivariateNormal:
    """Return the stationary Gaussian process with the spectrum of signals [N, 1, L].

    Its covariance at a lag is the mean product of values that far apart, over all of L as in the
    periodogram, which keeps it positive definite.
    """
    rows = x.flatten(1).double()
    mean, length = rows.mean(), rows.shape[1]
    power = torch.fft.rfft(rows - mean, 2 * length).abs().square().mean(dim=0)
    lags = torch.fft.irfft(power, 2 * length)[:length] / length
    apart = (torch.arange(length)[:, None] - torch.arange(length)).abs()
    return MultivariateNormal(mean.expand(length), covariance_matrix=lags[apart])


class Directions:
    """The main directions of data [N, C, *spatial]: Gaussians of any rank out of one PCA.

    That of rank k is a probabilistic PCA (Tipping & Bishop 1999, equation 7) whose noise is not
    the same everywhere but what each value has left of its variance: the edge of pictures may be
    empty.

    Args:
        x: the data.
        least: no value keeps less variance than this.
    """

    def __init__(self, x: Tensor, least: float) -> None:
        rows = x.flatten(1).double()
        self.mean = rows.mean(dim=0)
        rows = (rows - self.mean) / math.sqrt(len(rows))
        self.variance = rows.square().sum(dim=0)
        self.least = least
        wide = len(rows) < rows.shape[1]  # then the products of items are the smaller matrix
        values, vectors = torch.linalg.eigh(rows @ rows.T if wide else rows.T @ rows)
        self._values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)[:, : max(RANKS)]
        if wide:
            scale = self._values[: max(RANKS)].clamp(min=1e-30).sqrt()
            vectors = rows.T @ vectors / scale
        self._vectors = vectors

    def gaussian(self, rank: int, times: float = 1.0) -> LowRankMultivariateNormal:
        """Return the Gaussian of a rank, whose values keep ``times`` the least variance."""
        others = len(self.mean) - rank
        noise = self._values[rank:].sum() / max(others, 1)
        factor = self._vectors[:, :rank] * (self._values[:rank] - noise).clamp(min=0).sqrt()
        left = (self.variance - factor.square().sum(dim=1)).clamp(min=times * self.least)
        return LowRankMultivariateNormal(self.mean, factor, left)

    def best(self, x: Tensor) -> tuple[int, LowRankMultivariateNormal]:
        """Return the rank under which ``x`` [N, C, *spatial] is most probable, and its Gaussian.

        Then a larger least variance is tried: one value that never varied in training, and does in
        ``x``, can cost more than all others.
        """
        ranks = [rank for rank in RANKS if rank < self._vectors.shape[1]]
        rank = min(ranks, key=lambda rank: self._cost(x, rank, 1.0))
        times = min((1.0, 10.0, 100.0), key=lambda times: self._cost(x, rank, times))
        return rank, self.gaussian(rank, times)

    def _cost(self, x: Tensor, rank: int, times: float) -> float:
        return float(nats(self.gaussian(rank, times), x).mean())


def nats(model: Distribution, x: Tensor) -> Tensor:
    """Return the negative log-density [N] of ``x`` [N, C, *spatial] in nats per dimension."""
    rows = x.flatten(1).double()
    return torch.cat([-model.log_prob(part) for part in rows.split(CHUNK)]) / rows.shape[1]


def draw(model: Distribution, n: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Return ``n`` samples [n, *shape], float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model.sample(torch.Size([n])).reshape(n, *shape)


def dequantized(x: Tensor, bits: int, seed: int = 0) -> Tensor:
    """Return data in [-1, 1] as float64 levels plus uniform noise in [0, 1).

    The density of these in units of a level bounds the probability of the levels from below (Theis
    et al. 2016, equation 3), as the variational bound does: both err to the same side.
    """
    levels = ((x.double() + 1) * (2**bits - 1) / 2).round()
    return levels + torch.from_numpy(np.random.default_rng(seed).random(tuple(levels.shape)))


def of_levels(train: Tensor, held_out: Tensor, bits: int, n: int) -> Other:
    """Return the Gaussian with the main directions of data with levels, and ``n`` samples of it.

    It is the best for the held-out items themselves, in its favor.

    Args:
        train, held_out: [N, C, *spatial] in [-1, 1].
        bits: depth of the data.
        n: samples.
    """
    fit = Directions(dequantized(train, bits), least=1 / 12)
    held_out_levels = dequantized(held_out, bits, seed=1)
    rank, model = fit.best(held_out_levels)
    levels = draw(model, n, train.shape[1:]).floor().clamp(0, 2**bits - 1)
    likelihood = mean_and_error(nats(model, held_out_levels) / math.log(2))
    return Other(f"Gaussian of rank {rank}", (levels * (2 / (2**bits - 1)) - 1).float(), likelihood)


def mean_and_error(values: Tensor) -> str:
    """Return the mean of [N] with its standard error."""
    return f"{float(values.mean()):.3f} +- {float(values.std()) / math.sqrt(len(values)):.3f}"
