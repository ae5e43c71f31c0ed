"""How much memory training and sampling take, counted on a network without numbers."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from iddpm.builders.meta_network import call_with, on_meta_device
from iddpm.config import ResolvedConfig
from iddpm.networks import FEATURES
from iddpm.networks.costs import checkpoint_blocks, skip_stages

_AT_WORK = 4
"""Of the largest activation, how many more there are at once while a layer is computed."""
_LOSS = 16
"""Numbers for each of an item while its loss is computed: noise, targets, moments, logarithms."""
_OF_LEVELS = 3
"""Numbers for each feature of the levels: as they come, in float32, and their gradient."""

_HALF = 0.5 * 1.25
"""Of float32 activations, what they take in bfloat16: some are cast back and forth."""
_PROGRAM = 2e8
"""Bytes for compiled kernels and code that is loaded late."""


@dataclass(frozen=True)
class Footprint:
    """What a process needs beside what it has before, in bytes.

    Attributes:
        fixed: weights, gradients, the optimizer's moments, the averages, and what is not counted.
        item: for each item of a backward pass.
        sample: for each item that is drawn at once.
    """

    fixed: float
    item: float
    sample: float

    def training(self, items: int) -> float:
        """Return the bytes that training takes with so many items in a backward pass."""
        return self.fixed + items * self.item


@dataclass
class _Stored:
    """What autograd keeps, by the block that keeps it; ``None`` is outside all blocks."""

    known: set[int]
    block: nn.Module | None = None
    bytes_of: dict[nn.Module | None, dict[int, int]] = field(default_factory=dict)
    alive: list[Any] = field(default_factory=list)

    def keep(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.known:
            self.bytes_of.setdefault(self.block, {})[storage._cdata] = storage.nbytes()
            self.alive.append(storage)  # so that no other takes its number
        return x


def footprint(config: ResolvedConfig, number: int = 4, own: nn.Module | None = None) -> Footprint:
    """Count the memory of resolved settings, from the tensors that autograd keeps for one item.

    Measured peaks are within a third of it (``benchmarks/memory.md``). Of an own network that names
    no blocks and no skips (:mod:`iddpm.networks.costs`), every activation counts.

    Args:
        config: resolved settings.
        number: bytes of a number inside the network: 4 in float32 and 2 in bfloat16 and float16.
        own: an own network, which is called once.

    Raises:
        ValueError: settings that no network can be built of.
    """
    network, conditioning = on_meta_device(config, own)
    checkpointed = config.model.use_checkpoint
    for module in checkpoint_blocks(network):
        if hasattr(module, "use_checkpoint"):
            module.use_checkpoint = False  # type: ignore[assignment]  # it is counted here
    stored = _Stored({p.untyped_storage()._cdata for p in network.parameters()})
    skips = _watch(network, stored, checkpointed)
    with torch.autograd.graph.saved_tensors_hooks(stored.keep, _as_is), _FusedAttention():
        call_with(network, conditioning)

    outside = stored.bytes_of.pop(None, {})
    blocks = [sum(kept.values()) for kept in stored.bytes_of.values()]
    every = [n for kept in (outside, *stored.bytes_of.values()) for n in kept.values()]
    largest = max(every, default=0)
    activations = sum(outside.values()) + (max(blocks, default=0) if checkpointed else sum(blocks))

    weights = sum(p.numel() for p in network.parameters()) * 4
    training = config.training
    averages = len(training.ema_rates)
    averages += len(training.posthoc_ema.lengths) if training.posthoc_ema else 0
    item = math.prod(conditioning["x"].shape) * 4
    loss = _LOSS + (_OF_LEVELS * FEATURES if config.diffusion.gives_levels else 0)
    share = _HALF if number < 4 else 1.0
    return Footprint(
        fixed=_PROGRAM + weights * (4 + averages + (0.5 if number < 4 else 0)),
        item=(activations + _AT_WORK * largest) * share + loss * item,
        sample=(sum(skips) + _AT_WORK * largest) * share + loss * item,
    )


def _watch(network: nn.Module, stored: _Stored, checkpointed: bool) -> list[int]:
    """Tell ``stored`` which block is at work; return a list that fills with the skips' bytes."""

    def enter(block: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if checkpointed:
            stored.keep(inputs[0])
        stored.block = block

    def leave(*_: object) -> None:
        stored.block = None

    skips: list[int] = []
    for module in checkpoint_blocks(network):
        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
    for stage in skip_stages(network):
        stage.register_forward_hook(lambda _, __, y: skips.append(y.untyped_storage().nbytes()))
    return skips


def _as_is(x: Tensor) -> Tensor:
    return x


class _FusedAttention(TorchFunctionMode):
    """Let attention keep what its fused kernels keep: without numbers PyTorch takes another one."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            q, k, v = args
            return q * k * v
        return func(*args, **(kwargs or {}))
