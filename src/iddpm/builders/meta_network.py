"""A network on the meta device, for counting memory and FLOPs, and its inputs."""

import copy
import math

import torch
from torch import Tensor, nn

from iddpm.builders.network import count_inputs
from iddpm.builders.task import task_of
from iddpm.config import ResolvedConfig


def on_meta_device(
    config: ResolvedConfig, own: nn.Module | None = None
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the network of resolved settings for counting, and its inputs.

    The built-in one is on the device ``meta``. A copy of an own one stays on its device, in
    evaluation mode, because it may not work on ``meta``.

    Returns:
        The network, and the arguments for one item by their names, ``x`` and ``timesteps`` first.

    Raises:
        ValueError: settings that no network can be built of.
    """
    if own is not None:
        network = copy.deepcopy(own).eval()
        where = next((p.device for p in network.parameters()), torch.device("cpu"))
        return network, {name: v.to(where) for name, v in example_inputs(config, 1).items()}
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        return task_of(config).network(), example_inputs(config, 1)


def example_inputs(config: ResolvedConfig, count: int) -> dict[str, Tensor]:
    """Return the inputs of the network of resolved settings for ``count`` items."""
    model = config.model
    shape = (count, count_inputs(config), *model.size)
    conditioning = {
        "x": torch.linspace(-1, 1, math.prod(shape)).reshape(shape),
        "timesteps": torch.full((count,), 500.0),
    }
    if model.class_conditional:
        conditioning["y"] = torch.zeros(count, dtype=torch.int64)
    if model.conditions:
        conditioning["conditions"] = torch.zeros(count, len(model.conditions))
    if model.given_channels:
        conditioning["given"] = torch.zeros(count, model.given_channels, *model.size)
    made = config.distillation
    numbers = {} if made is None else {name: torch.zeros(count) for name in made.numbers}
    return conditioning | task_of(config).example_inputs(count) | numbers


def call_with(network: nn.Module, conditioning: dict[str, Tensor]) -> Tensor:
    """Call a network as training does: data and timesteps by position, the rest by name."""
    rest = {name: value for name, value in conditioning.items() if name not in ("x", "timesteps")}
    output: Tensor = network(conditioning["x"], conditioning["timesteps"], **rest)
    return output
