"""The level head: from a network's features to a logit for each level of the data."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.networks.around import Around
from iddpm.networks.neighborhood import local_channels, local_estimate

FEATURES = 24
"""Features per value of the data, from which its logits are computed."""


class LevelHead(Around):
    """A network whose first output channels are features, with the map to logits beside it.

    Logits are not computed here: each value of the data has as many as there are levels, so they
    are computed in chunks (:mod:`iddpm.diffusion.level_distribution`).

    Args:
        network: returns [N, channels * features + M, *spatial]; M further channels pass through.
            With a ``radius`` r, the last C (C + 1) + (2 r + 1)^dims - 1 say how each value is
            estimated from those around it, with C ``channels``.
        channels: channels of the data, which are the first of the network's input.
        levels: levels of the data, such as 256.
        features: of each channel.
        radius: also estimate each value from the noisy values up to so many positions away.
        circular: whether each axis of the data is a ring.

    >>> from iddpm import UNet
    >>> network = UNet(dims=1, in_channels=1, out_channels=3, model_channels=8, num_res_blocks=1)
    >>> head = LevelHead(network, channels=1, levels=16, features=3)
    >>> [list(part.shape) for part in head(torch.zeros(2, 1, 16), torch.zeros(2))]
    [[2, 3, 16], [1, 3, 16], [1, 16]]
    """

    def __init__(
        self,
        network: nn.Module,
        channels: int,
        levels: int,
        features: int = FEATURES,
        radius: int = 0,
        circular: Sequence[bool] = (),
    ) -> None:
        super().__init__(network)
        self.radius = radius
        self.circular = tuple(circular)
        self.weight = nn.Parameter(torch.randn(channels, features, levels) / features**0.5)
        self.bias = nn.Parameter(torch.zeros(channels, levels))

    def forward(self, x: Tensor, timesteps: Tensor, **conditioning: Any) -> tuple[Tensor, ...]:
        """Return the network's output, the weight [C, F, K] and the bias [C, K].

        With a radius, a fourth tensor has the local estimates, [N, 3 C, *spatial].
        """
        # Copies, since sharded training releases the parameters when this returns.
        said = self.network(x, timesteps, **conditioning)
        maps = self.weight.clone(), self.bias.clone()
        if not self.radius:
            return said, *maps
        channels = len(self.weight)
        count = local_channels(channels, x.dim() - 2, self.radius)
        said, local = said.tensor_split([said.shape[1] - count], dim=1)
        return said, *maps, local_estimate(x[:, :channels], local, self.radius, self.circular)

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Let the bias be the log-frequency of the levels, from counts [C, K]; half added to each.

        A network whose last layer starts at zero then predicts the frequencies of the levels.
        """
        counts = counts.double() + 0.5
        self.bias.copy_((counts / counts.sum(dim=1, keepdim=True)).log())
