"""Optional members with which a network describes itself for planning memory.

``channels_last``: whether its 2-D convolutions on CPUs should have their channels last.
``checkpoint_blocks()``: the blocks whose activations can be computed again in the backward pass.
``skip_stages()``: the modules whose outputs are held until later ones use them. All of them are
optional: without the last two, every activation counts as stored.
"""

from torch import nn


def checkpoint_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the blocks that a network names, or none."""
    said = getattr(network, "checkpoint_blocks", None)
    return list(said()) if callable(said) else []


def skip_stages(network: nn.Module) -> list[nn.Module]:
    """Return the stages that a network names, or none."""
    said = getattr(network, "skip_stages", None)
    return list(said()) if callable(said) else []


def channels_last(network: nn.Module) -> bool:
    """Return whether a network is made for channels last and faster with them."""
    return getattr(network, "channels_last", False) is True
