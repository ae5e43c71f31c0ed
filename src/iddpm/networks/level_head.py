"""The level head: from a network's features to a logit for each level of the data."""

from typing import Any

import torch
from torch import Tensor, nn

from iddpm.networks.around import Around

FEATURES = 24
"""Features per value of the data, from which its logits are computed."""


class LevelHead(Around):
    """A network whose first output channels are features, with the map to logits beside it.

    Logits are not computed here: each value of the data has as many as there are levels, so they
    are computed in chunks (:mod:`iddpm.diffusion.level_distribution`).

    Args:
        network: returns [N, channels * features + M, *spatial]; M further channels pass through.
        channels: channels of the data.
        levels: levels of the data, such as 256.
        features: of each channel.

    >>> from iddpm import UNet
    >>> network = UNet(dims=1, in_channels=1, out_channels=3, model_channels=8, num_res_blocks=1)
    >>> head = LevelHead(network, channels=1, levels=16, features=3)
    >>> [list(part.shape) for part in head(torch.zeros(2, 1, 16), torch.zeros(2))]
    [[2, 3, 16], [1, 3, 16], [1, 16]]
    """

    def __init__(
        self, network: nn.Module, channels: int, levels: int, features: int = FEATURES
    ) -> None:
        super().__init__(network)
        self.weight = nn.Parameter(torch.randn(channels, features, levels) / features**0.5)
        self.bias = nn.Parameter(torch.zeros(channels, levels))

    def forward(
        self, x: Tensor, timesteps: Tensor, **conditioning: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network's output, the weight [C, F, K] and the bias [C, K]."""
        # Copies, since sharded training releases the parameters when this returns.
        said = self.network(x, timesteps, **conditioning)
        return said, self.weight.clone(), self.bias.clone()

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Let the bias be the log-frequency of the levels, from counts [C, K]; half added to each.

        A network whose last layer starts at zero then predicts the frequencies of the levels.
        """
        counts = counts.double() + 0.5
        self.bias.copy_((counts / counts.sum(dim=1, keepdim=True)).log())
