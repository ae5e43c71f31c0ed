"""The floating-point operations of training."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iddpm.builders.meta_network import call_with, on_meta_device
from iddpm.config import ResolvedConfig
from iddpm.training.step import SELF_CONDITION_SHARE


def count_flops(config: ResolvedConfig, own: nn.Module | None = None) -> float:
    """Return the floating-point operations of matrix products that training takes for an item.

    PyTorch counts the forward pass on the meta device; the backward pass takes twice as many.
    Recomputation by gradient checkpointing does not count. The forward pass for self-conditioning
    counts by its share of the steps.

    Args:
        config: resolved settings.
        own: an own network; a copy is counted.
    """
    network, conditioning = on_meta_device(config, own)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        call_with(network, conditioning)
    forward: int = counter.get_total_flops()
    return forward * (3 + (SELF_CONDITION_SHARE if config.diffusion.self_condition else 0))
