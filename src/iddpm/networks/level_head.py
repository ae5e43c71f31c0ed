"""From a network's features to a logit for each level of the data."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.networks import costs

FEATURES = 24
"""Features of each value of the data that its logits are made of."""


class LevelHead(nn.Module):
    """A network whose first output channels are features, with the map to logits beside it.

    Logits are never computed here: there are as many for each value of the data as it has levels,
    and what they are wanted for is computed in pieces (:mod:`iddpm.diffusion.level_distribution`).

    Args:
        network: returns [N, channels * features + M, *spatial]; M further channels pass through.
        channels: channels of the data.
        levels: levels of the data, such as 256.
        features: of each channel.
    """

    def __init__(
        self, network: nn.Module, channels: int, levels: int, features: int = FEATURES
    ) -> None:
        super().__init__()
        self.network = network
        self.weight = nn.Parameter(torch.randn(channels, features, levels) / features**0.5)
        self.bias = nn.Parameter(torch.zeros(channels, levels))

    def forward(
        self, x: Tensor, timesteps: Tensor, **conditioning: Any
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the network's output, the weight [C, F, K] and the bias [C, K]."""
        # Copies, since sharded training lets its parameters go when this returns.
        said = self.network(x, timesteps, **conditioning)
        return said, self.weight.clone(), self.bias.clone()

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Let the bias be the log-frequency of the levels, from counts [C, K]; half added to each.

        A network whose last layer starts at zero then says just how frequent the levels are.
        """
        counts = counts.double() + 0.5
        self.bias.copy_((counts / counts.sum(dim=1, keepdim=True)).log())

    @property
    def channels_last(self) -> bool:
        """Whether the network is faster with its channels last."""
        return costs.channels_last(self.network)

    def checkpoint_blocks(self) -> Iterable[nn.Module]:
        """Return the blocks whose activations can be computed again."""
        return costs.checkpoint_blocks(self.network)

    def skip_stages(self) -> Iterable[nn.Module]:
        """Return the modules whose outputs are held until later ones use them."""
        return costs.skip_stages(self.network)
