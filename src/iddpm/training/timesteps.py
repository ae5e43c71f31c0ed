"""Timestep samplers: the distribution of the timesteps in training."""

from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.diffusion import NoiseSchedule
from iddpm.diffusion.weighting import log_normal_density


class Timesteps(NamedTuple):
    """Timesteps [N] and the weights [N] float32 that keep the loss's mean unbiased.

    Timesteps are int64, or float64 between two steps of the schedule.
    """

    t: Tensor
    weights: Tensor


class TimestepSampler(Protocol):
    """A distribution over timesteps, which may depend on the losses."""

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """Return timesteps for uniform numbers [N] in [0, 1), as a function of these alone."""

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Update the distribution by the unweighted losses [N] at ``t`` [N], both on the CPU."""

    def state(self) -> dict[str, Tensor]:
        """Return the tensors for a checkpoint."""

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""


class UniformTimesteps:
    """Uniform timesteps.

    >>> UniformTimesteps(1000).sample(np.array([0.0, 0.25, 0.5]))
    Timesteps(t=tensor([  0, 250, 500]), weights=tensor([1., 1., 1.]))
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`."""
        t = torch.from_numpy((uniform * self.num_steps).astype(np.int64))
        return Timesteps(t, torch.ones(len(t)))

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Learn nothing."""

    def state(self) -> dict[str, Tensor]:
        """Return nothing: there is no state."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a checkpoint."""


class LowDiscrepancyTimesteps(UniformTimesteps):
    """Uniform timesteps with each batch spread evenly over them.

    Item i of N takes (u + i / N) mod 1 of the process, with one random u for the whole batch: each
    item's timestep is still uniform, and the mean loss of a batch varies less.

    Source: Kingma et al. 2021, the low-discrepancy sampler of the appendix.

    >>> LowDiscrepancyTimesteps(1000).sample(np.full(4, 0.125)).t
    tensor([125, 375, 625, 875])
    """

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`; only the first number of ``uniform`` is used."""
        count = len(uniform)
        return super().sample((uniform[:1] + np.arange(count) / max(count, 1)) % 1.0)


class _ShareTimesteps:
    """Another distribution, except for a share of the items.

    Args:
        others: distribution of the other items.
        num_steps: T.
        share: in (0, 1).
    """

    def __init__(self, others: TimestepSampler, num_steps: int, share: float = 0.125) -> None:
        self.others, self.num_steps, self.share = others, num_steps, share

    def update(self, t: Tensor, losses: Tensor) -> None:
        """See :class:`TimestepSampler`."""
        self.others.update(t, losses)

    def state(self) -> dict[str, Tensor]:
        """See :class:`TimestepSampler`."""
        return self.others.state()

    def load(self, state: dict[str, Tensor]) -> None:
        """See :class:`TimestepSampler`."""
        self.others.load(state)


class DecoderTimesteps(_ShareTimesteps):
    """Another distribution, except that a share of the items is at step 0, for the decoder.

    The weights keep the mean of the loss unbiased: only these items count for step 0.
    """

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`."""
        chosen = uniform < self.share
        # Uniform for chosen and other items, because the whole batch may use one number.
        fresh = np.where(chosen, uniform / self.share, (uniform - self.share) / (1 - self.share))
        t, weights = self.others.sample(fresh)
        here = torch.from_numpy(chosen)
        weights = torch.where(t == 0, 0.0, weights / (1 - self.share))
        weights = torch.where(here, 1 / (self.num_steps * self.share), weights)
        return Timesteps(torch.where(here, 0, t), weights)


class PureNoiseTimesteps(_ShareTimesteps):
    """Another distribution, except that a share of the items has the noisiest timestep.

    Their weights stay 1, so they count more, as intended: there the input contains the least, and a
    sample by one evaluation depends only on this timestep.
    """

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`."""
        rest = uniform >= self.share
        drawn = self.others.sample((uniform[rest] - self.share) / (1 - self.share))
        t, weights = torch.full((len(uniform),), self.num_steps - 1), torch.ones(len(uniform))
        t[torch.from_numpy(rest)], weights[torch.from_numpy(rest)] = drawn
        return Timesteps(t, weights)


class LogNormalTimesteps(UniformTimesteps):
    r"""Steps with log-normal noise levels, a tenth of them uniform.

    .. math::

        \ln \sigma \sim N(\mathrm{mean}, \mathrm{spread}^2), \qquad
        \sigma^2 = (1 - \bar\alpha_t) / \bar\alpha_t

    The weights keep the mean of any loss that of uniform timesteps, so the bound stays right. They
    cancel the density in :func:`~iddpm.diffusion.weighting.log_normal`: with this weighting all
    squared errors of F count alike, as in EDM (Karras et al. 2022, table 1).

    Args:
        schedule: the process.
        log_sigma_mean, log_sigma_spread: of ln sigma.

    >>> from iddpm import cosine
    >>> LogNormalTimesteps(cosine(1000)).sample(np.array([0.1, 0.5, 0.9])).t.tolist()
    [36, 198, 661]
    """

    def __init__(
        self, schedule: NoiseSchedule, log_sigma_mean: float = -1.2, log_sigma_spread: float = 1.2
    ) -> None:
        super().__init__(len(schedule))
        level = schedule.at(torch.arange(self.num_steps))
        density = log_normal_density(level, self.num_steps, log_sigma_mean, log_sigma_spread)
        self.probabilities: NDArray[np.float64] = (density / density.sum()).numpy()

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`."""
        return _drawn(self.probabilities, uniform)


def _drawn(p: NDArray[np.float64], uniform: NDArray[np.float64]) -> Timesteps:
    """Draw timesteps with probabilities ``p`` [T], with weights 1 / (T p)."""
    cumulative = np.cumsum(p)
    t = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
    t = np.minimum(t, len(p) - 1)
    return Timesteps(torch.from_numpy(t), torch.from_numpy(1 / (len(p) * p[t])).float())


class LossSecondMomentTimesteps:
    r"""Timesteps in proportion to the root of their mean squared loss.

    .. math::

        p_t \propto \sqrt{\mathrm{E}[L_t^2]}

    This reduces the variance of the bound's gradient (Nichol & Dhariwal 2021, section 3.3). It is
    uniform until every timestep has occurred ``history`` times.

    Args:
        num_steps: T.
        history: number of last losses of each timestep that count.
        uniform_share: probability of a uniform draw, so that every timestep stays possible.

    >>> timesteps = LossSecondMomentTimesteps(2, history=1, uniform_share=0.0)
    >>> timesteps.update(torch.tensor([0, 1]), torch.tensor([3.0, 1.0]))
    >>> timesteps.probabilities().tolist()
    [0.75, 0.25]
    """

    def __init__(self, num_steps: int, history: int = 10, uniform_share: float = 0.001) -> None:
        self.num_steps = num_steps
        self.uniform_share = uniform_share
        self.losses = np.zeros((num_steps, history))
        self.counts = np.zeros(num_steps, dtype=np.int64)

    def probabilities(self) -> NDArray[np.float64]:
        """Return the probability of each timestep, [T]."""
        even = np.full(self.num_steps, 1 / self.num_steps)
        if not (self.counts >= self.losses.shape[1]).all():
            return even
        root = np.sqrt(np.mean(self.losses**2, axis=1))
        if not root.sum() > 0:
            return even
        mixed: NDArray[np.float64] = (1 - self.uniform_share) * root / root.sum()
        return mixed + self.uniform_share * even

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`TimestepSampler`."""
        return _drawn(self.probabilities(), uniform)

    def update(self, t: Tensor, losses: Tensor) -> None:
        """See :class:`TimestepSampler`; losses that are not finite are ignored."""
        for step, loss in zip(t.tolist(), losses.tolist(), strict=True):
            if np.isfinite(loss):  # replaces the oldest loss: a ring per timestep
                self.losses[step, self.counts[step] % self.losses.shape[1]] = loss
                self.counts[step] += 1

    def state(self) -> dict[str, Tensor]:
        """See :class:`TimestepSampler`."""
        return {
            "losses": torch.from_numpy(self.losses.copy()),
            "counts": torch.from_numpy(self.counts.copy()),
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """See :class:`TimestepSampler`."""
        if state["losses"].shape != self.losses.shape:
            raise ValueError(
                f"the checkpoint's loss history has shape {list(state['losses'].shape)} "
                f"instead of {list(self.losses.shape)} (timesteps, history)"
            )
        self.losses = state["losses"].numpy().copy()
        self.counts = state["counts"].numpy().copy()
