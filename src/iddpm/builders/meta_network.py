"""A network with shapes and no numbers, to count on."""

from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders.low_resolution import low_res_size
from iddpm.builders.network import build_encoder, build_network
from iddpm.config import Config


def on_paper(config: Config) -> tuple[nn.Module, dict[str, Tensor]]:
    """Build the network of resolved settings without memory, and what it is called with.

    Returns:
        The network on the ``meta`` device, and the arguments for one item by their names.

    Raises:
        ValueError: settings that no network can be built of.
    """
    model = config.model
    assert model.channels is not None
    assert model.size is not None
    classifies = config.task == "classification"
    doubled = 2 if config.diffusion.self_condition else 1
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network: nn.Module = build_encoder(config) if classifies else build_network(config)
        told: dict[str, Any] = {
            "x": torch.empty(1, model.channels * doubled, *model.size),
            "timesteps": torch.empty(1),
        }
        if model.class_conditional:
            told["y"] = torch.zeros(1, dtype=torch.int64)
        if model.conditions:
            told["conditions"] = torch.zeros(1, len(model.conditions))
        if model.given_channels:
            told["given"] = torch.zeros(1, model.given_channels, *model.size)
        if config.task == "super_resolution":
            told["low_res"] = torch.empty(1, model.channels, *low_res_size(config))
            if config.degradation.augment:
                told["low_res_noise"] = torch.empty(1)
    return network, told
