"""The base of wrappers around a network, which describe themselves as the inner network does."""

from collections.abc import Iterable

from torch import nn

from iddpm.networks import costs


class Around(nn.Module):
    """The base of wrappers around a network."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

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

    def edge_layers(self) -> Iterable[nn.Module]:
        """Return the modules that receive the inputs or return the output."""
        return costs.edge_layers(self.network)
