"""Gradient checkpointing: recompute a block's activations in the backward pass."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint as torch_checkpoint

CheckpointEngine = Literal["function", "torch"]


def run_block(block: Any, x: Tensor, *rest: Tensor) -> Tensor:
    """Return ``block._forward(x, *rest)``, recomputed in the backward pass where the block says so.

    The block has ``use_checkpoint`` and ``checkpoint_engine``: ``"function"`` for
    :class:`CheckpointFunction`, ``"torch"`` for PyTorch's own.
    """
    x = x.view_as(x)  # one entry, so that gradients sum in one order with and without recompute
    if not (block.use_checkpoint and torch.is_grad_enabled()):
        return block._forward(x, *rest)  # type: ignore[no-any-return]
    if block.checkpoint_engine == "torch":
        return torch_checkpoint(block._forward, x, *rest, use_reentrant=False)  # type: ignore[no-any-return]
    inputs = (x, *rest)
    out: Tensor = CheckpointFunction.apply(
        block._forward, len(inputs), *inputs, *block.parameters()
    )
    return out


class CheckpointFunction(torch.autograd.Function):
    """Run a block without storing its activations; recompute them for the backward pass.

    Called as ``CheckpointFunction.apply(run, length, *inputs, *parameters)`` where ``run(*inputs)``
    returns one tensor and ``length`` is the number of inputs. The parameters are passed too,
    because autograd computes gradients only for the arguments of a Function.

    The recomputation replays the random state (so that dropout drops the same units: the published
    function drew new ones) and the autocast state of the forward pass. Inputs and parameters that
    need no gradient are allowed. torch.compile and FSDP use PyTorch's own engine instead: see
    ``checkpoint_engine`` of the blocks.
    """

    @staticmethod
    def forward(ctx: Any, run: Callable[..., Tensor], length: int, *args: Tensor) -> Tensor:
        """Return ``run(*args[:length])``."""
        ctx.run = run
        ctx.length = length
        ctx.device_type = args[0].device.type
        ctx.autocast = {
            kind: (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
            for kind in {"cpu", ctx.device_type}
            if torch.amp.is_autocast_available(kind)
        }
        ctx.random_state = torch.get_rng_state()
        ctx.device_random_state = (
            torch.get_device_module(ctx.device_type).get_rng_state(args[0].device)
            if ctx.device_type != "cpu"
            else None
        )
        ctx.save_for_backward(*args)
        with torch.no_grad(), _autocast(ctx):
            return run(*args[:length])

    @staticmethod
    def backward(ctx: Any, *output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Recompute the block with gradients on and return those of inputs and parameters."""
        if torch.is_grad_enabled():  # create_graph=True: the result would be taken for a constant
            raise RuntimeError(
                "CheckpointFunction gives first derivatives only; for derivatives of gradients "
                "use checkpoint_engine='torch' or no checkpointing"
            )
        args: tuple[Tensor, ...] = ctx.saved_tensors
        inputs = [x.detach().requires_grad_(x.requires_grad) for x in args[: ctx.length]]
        leaves = (*inputs, *args[ctx.length :])
        device = leaves[0].device
        devices = [] if ctx.device_type == "cpu" else [device]
        with (
            torch.random.fork_rng(devices, device_type=ctx.device_type if devices else "cuda"),
            torch.enable_grad(),
            _autocast(ctx),
        ):
            torch.set_rng_state(ctx.random_state)
            if devices:
                module = torch.get_device_module(ctx.device_type)
                module.set_rng_state(ctx.device_random_state, device)
            output = ctx.run(*inputs)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        gradients = iter(
            torch.autograd.grad(output, wanted, output_gradients, allow_unused=True)
            if wanted
            else ()
        )
        found = [next(gradients) if leaf.requires_grad else None for leaf in leaves]
        return None, None, *found


def _autocast(ctx: Any) -> ExitStack:
    """Return the autocast state that the forward pass saw, without its cache of cast weights.

    In older PyTorch releases (not in 2.13), a weight cast under ``no_grad`` and kept in that cache
    would be found again by the recomputation, and have no gradient.
    """
    stack = ExitStack()
    for kind, (enabled, dtype) in ctx.autocast.items():
        stack.enter_context(torch.autocast(kind, dtype=dtype, enabled=enabled, cache_enabled=False))
    return stack
