"""How much arithmetic training takes."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iddpm.builders.meta_network import call_with, on_meta_device
from iddpm.config import ResolvedConfig
from iddpm.training.step import SELF_CONDITION_SHARE


def count_flops(config: ResolvedConfig, own: nn.Module | None = None) -> float:
    """Return the floating-point operations of matrix products that training takes for an item.

    The forward pass is counted by PyTorch on a network that has shapes and no numbers; the
    backward pass takes twice as many. What gradient checkpointing computes again does not count,
    and a forward pass for self-conditioning counts as often as there is one.

    Args:
        config: resolved settings.
        own: an own network, which is counted on a copy.
    """
    network, conditioning = on_meta_device(config, own)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call_with(network, conditioning)
    forward: int = counter.get_total_flops()
    return forward * (3 + (SELF_CONDITION_SHARE if config.diffusion.self_condition else 0))
