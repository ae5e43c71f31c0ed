"""The memory of training and sampling, counted on the meta device."""

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
"""Number of further activations of the largest size while a layer is computed."""
_LOSS = 16
"""Numbers per value of an item while its loss is computed: noise, targets, moments, logarithms."""
_OF_LEVELS = 3
"""Numbers per feature of the levels: the output, its float32 copy and the gradient."""

_HALF = 0.5 * 1.25
"""Share of the float32 activations that they take in bfloat16: some are cast back and forth."""
_PROGRAM = 2e8
"""Bytes for compiled kernels and code that is loaded late."""


@dataclass(frozen=True)
class Footprint:
    """The memory of a process in addition to what it has before, in bytes.

    Attributes:
        fixed: weights, gradients, the optimizer's moments, the averages, and uncounted memory.
        item: per item of a backward pass.
        sample: per item of a sampling batch.
    """

    fixed: float
    item: float
    sample: float

    def training(self, items: int) -> float:
        """Return the bytes of training with a number of items in a backward pass."""
        return self.fixed + items * self.item


@dataclass
class _Stored:
    """The tensors that autograd keeps, by block; ``None`` is outside all blocks."""

    known: set[int]
    block: nn.Module | None = None
    bytes_of: dict[nn.Module | None, dict[int, int]] = field(default_factory=dict)
    computed_weights: int = 0
    alive: list[Any] = field(default_factory=list)

    def keep(self, x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage._cdata not in self.known:
            self.bytes_of.setdefault(self.block, {})[storage._cdata] = storage.nbytes()
            self.alive.append(storage)  # so that no other gets its id
        return x

    def keep_weight(self, weight: Tensor) -> None:
        """Count a weight that is computed from parameters: it is kept once, not for each item."""
        storage = weight.untyped_storage()
        if weight.requires_grad and storage._cdata not in self.known:
            self.known.add(storage._cdata)
            self.computed_weights += storage.nbytes()
            self.alive.append(storage)


def footprint(config: ResolvedConfig, number: int = 4, own: nn.Module | None = None) -> Footprint:
    """Count the memory of resolved settings, from the tensors that autograd keeps for one item.

    Measured peaks are within a third of it (``benchmarks/memory.md``). For an own network without
    blocks and skips (:mod:`iddpm.networks.costs`), every activation counts.

    Args:
        config: resolved settings.
        number: bytes of a number inside the network: 4 in float32 and 2 in bfloat16 and float16.
        own: an own network; it is called once.

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
    with torch.autograd.graph.saved_tensors_hooks(stored.keep, _as_is), _Counting(stored):
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
        fixed=_PROGRAM
        + weights * (4 + averages + (0.5 if number < 4 else 0))
        + stored.computed_weights,
        item=(activations + _AT_WORK * largest) * share + loss * item,
        sample=(sum(skips) + _AT_WORK * largest) * share + loss * item,
    )


def _watch(network: nn.Module, stored: _Stored, checkpointed: bool) -> list[int]:
    """Record the active block in ``stored``; return a list that receives the bytes of the skips."""

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


_WEIGHTED = (F.linear, F.conv1d, F.conv2d, F.conv3d)
"""Functions whose second argument is a weight."""


class _Counting(TorchFunctionMode):
    """Let attention keep the tensors of its fused kernels: on meta, PyTorch uses another one.

    Weights of convolutions and linear maps are counted apart from activations.
    """

    def __init__(self, stored: _Stored) -> None:
        super().__init__()
        self.stored = stored

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
        if func in _WEIGHTED:
            self.stored.keep_weight(args[1])
        return func(*args, **(kwargs or {}))
