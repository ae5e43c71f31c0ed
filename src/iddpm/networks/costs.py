"""Optional members with which a network describes itself for planning memory and training.

``channels_last``: whether its 2-D convolutions on CPUs should have their channels last.
``checkpoint_blocks()``: the blocks whose activations can be computed again in the backward pass.
``skip_stages()``: the modules whose outputs are held until later ones use them.
``edge_layers()``: the modules that receive the data, the time and conditions, or return the output.
All of them are optional. Without ``checkpoint_blocks`` and ``skip_stages``, every activation counts
as stored.
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


def edge_layers(network: nn.Module) -> list[nn.Module]:
    """Return the modules that a network names as its edge.

    By default these are the first and the last layer with weights of two or more axes.
    """
    said = getattr(network, "edge_layers", None)
    if callable(said):
        return list(said())
    layers = [
        module
        for module in network.modules()
        if any(weight.dim() > 1 for weight in module.parameters(recurse=False))
    ]
    return [*layers[:1], *layers[-1:]]
