"""How much arithmetic training takes."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from iddpm.build.model import build_encoder, build_network
from iddpm.build.super_resolution import low_res_size
from iddpm.config import Config
from iddpm.training.step import SELF_CONDITION_SHARE


def count_flops(config: Config) -> float:
    """Return the floating-point operations of matrix products that training takes for an item.

    The forward pass is counted by PyTorch on a network that has shapes and no numbers; the
    backward pass takes twice as many. What gradient checkpointing computes again does not count,
    and a forward pass for self-conditioning counts as often as there is one.

    Args:
        config: resolved settings.
    """
    model = config.model
    assert model.channels is not None
    assert model.size is not None
    classifies = config.task == "classification"
    doubled = 2 if config.diffusion.self_condition else 1
    with torch.random.fork_rng(devices=[]), torch.device("meta"), torch.no_grad():
        network: nn.Module = build_encoder(config) if classifies else build_network(config)
        x, t = torch.empty(1, model.channels * doubled, *model.size), torch.empty(1)
        told = {"y": torch.zeros(1, dtype=torch.int64)} if model.class_conditional else {}
        if model.conditions:
            told["conditions"] = torch.zeros(1, len(model.conditions))
        if model.given_channels:
            told["given"] = torch.zeros(1, model.given_channels, *model.size)
        if config.task == "super_resolution":
            told["low_res"] = torch.empty(1, model.channels, *low_res_size(config))
            if config.degradation.augment:
                told["low_res_noise"] = torch.empty(1)
        with FlopCounterMode(display=False) as counter:
            network(x, t, **told)
    forward: int = counter.get_total_flops()
    return forward * (3 + (SELF_CONDITION_SHARE if config.diffusion.self_condition else 0))
