"""Training a classifier of noisy data (Dhariwal & Nichol 2021, section 4)."""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from iddpm.diffusion import GaussianDiffusion
from iddpm.diffusion.losses import LossTerms
from iddpm.training.timesteps import Timesteps, UniformTimesteps


class NoisyClassifier(nn.Module):
    """A classifier network and the process that adds noise to its input.

    Args:
        network: called as ``network(x_t, shown)``; returns logits [N, K].
        diffusion: the process.
    """

    def __init__(self, network: Callable[..., Tensor], diffusion: GaussianDiffusion) -> None:
        super().__init__()
        self.network = network
        self.diffusion = diffusion

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return the logits [N, K] of data at the steps ``t`` [N] of the process."""
        shown = self.diffusion.schedule.at(t).shown
        return self.network(x_t, shown.to(device=x_t.device, dtype=torch.float32))


def cross_entropy(
    classifier: NoisyClassifier, x0: Tensor, t: Tensor, noise: Tensor, *, y: Tensor
) -> LossTerms:
    """Return the cross-entropy in nats of the classes ``y`` [N] given x_t.

    ``x0``, ``t`` and ``noise`` are those of :func:`iddpm.diffusion.losses.simple`.
    """
    logits = classifier(classifier.diffusion.q_sample(x0, t, noise), t)
    return LossTerms(F.cross_entropy(logits.float(), y, reduction="none"), None, None)


class CleanAndNoisyTimesteps(UniformTimesteps):
    """Uniform timesteps, except that a share of the items has the least noisy one.

    The weights stay 1, so these items count more, as intended: features and accuracy are measured
    on clean data, which uniform timesteps draw with probability 1 / T.

    Args:
        num_steps: T.
        clean_share: in [0, 1).
    """

    def __init__(self, num_steps: int, clean_share: float) -> None:
        super().__init__(num_steps)
        self.clean_share = clean_share

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`~iddpm.training.timesteps.TimestepSampler`."""
        rest = (uniform - self.clean_share) / (1 - self.clean_share)
        return super().sample(np.maximum(rest, 0.0))
