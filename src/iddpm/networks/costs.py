"""Optional members with which a network describes itself for planning memory.

All of them are optional: without them, every activation counts as stored.
"""

from collections.abc import Iterable
from typing import Protocol

from torch import nn


class Described(Protocol):
    """The members of a network; each may be left out."""

    channels_last: bool
    """Whether 2-D convolutions on CPUs should have their channels last."""

    def checkpoint_blocks(self) -> Iterable[nn.Module]:
        """Return the blocks whose activations can be computed again in the backward pass."""

    def skip_stages(self) -> Iterable[nn.Module]:
        """Return the modules whose outputs are held until later ones use them."""


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
