"""Consistency mid-training: every point of a teacher's trajectory leads to its end."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.diffusion import Denoiser
from iddpm.diffusion.losses import LossTerms
from iddpm.training.distillation.consistency import distance
from iddpm.training.timesteps import Timesteps, UniformTimesteps


class Trajectories(NamedTuple):
    """Trajectories of a teacher, from noise to data."""

    points: Tensor
    """[P, G, C, *spatial], the states at P levels, the cleanest first."""
    ends: Tensor
    """[G, C, *spatial], the samples."""


class Paths(Protocol):
    """A function that draws trajectories of a teacher.

    Attributes:
        positions: their P timesteps, increasing, without the data.
    """

    positions: Tensor

    def __call__(self, noise: Tensor, **conditioning: Any) -> Trajectories:
        """Return the trajectories from standard normal noise [G, C, *spatial]."""


class ListedTimesteps(UniformTimesteps):
    """Some timesteps, all equally likely.

    >>> ListedTimesteps([2.5, 40.0]).sample(np.array([0.1, 0.9])).t
    tensor([ 2.5000, 40.0000], dtype=torch.float64)
    """

    def __init__(self, positions: Sequence[float]) -> None:
        super().__init__(len(positions))
        self.positions = torch.tensor(positions, dtype=torch.float64)

    def sample(self, uniform: NDArray[np.float64]) -> Timesteps:
        """See :class:`~iddpm.training.timesteps.TimestepSampler`."""
        which, weights = super().sample(uniform)
        return Timesteps(self.positions[which], weights)


def mid_training(
    denoiser: Denoiser,
    x0: Tensor,
    t: Tensor,
    noise: Tensor,
    *,
    teacher: Paths,
    huber: float = 0.0,
    own_estimate: bool = False,
    **conditioning: Any,
) -> LossTerms:
    """Return the distance of D(x_t) to the end of the teacher's trajectory through x_t.

    Each item trains one point. As many trajectories as there are items for each of their P points
    are drawn, with the noise and the conditioning of the first of these items, so that a step
    costs about as many evaluations of the teacher as of the network. The target does not depend
    on the network, unlike that of consistency training, and the data is not used (Hu et al. 2025,
    "CMT: Mid-Training for Efficient Learning of Consistency, Mean Flow, and Flow Map Models").

    Args:
        denoiser: the model.
        x0: data, of which the shape counts.
        t: [N], some of the teacher's positions.
        noise: standard normal, the shape of ``x0``.
        teacher: draws trajectories.
        huber: see :func:`~iddpm.training.distillation.consistency.distance`.
        own_estimate: not used: the network is conditioned on no earlier estimate.
        conditioning: passed to the network, and to the teacher.
    """
    count, points = len(t), len(teacher.positions)
    groups = -(-count // points)
    of_item = torch.arange(count) * groups // count
    first = torch.searchsorted(of_item, torch.arange(groups))
    chosen = {name: value[first] for name, value in conditioning.items()}
    drawn = teacher(noise[first], **chosen)
    point = (teacher.positions[:, None] - t.double().cpu()).abs().argmin(dim=0)
    torch.clear_autocast_cache()  # it may hold copies of the weights that have no gradient
    shared = {name: value[of_item] for name, value in chosen.items()}
    level = denoiser.diffusion.schedule.at(t)
    estimate = denoiser(drawn.points[point, of_item], level, **shared).x0
    return LossTerms(distance(estimate, drawn.ends[of_item], huber), None, None)
