"""Convolutions in 1, 2 and 3 dimensions, with periodic axes and without errors of bfloat16 kernels.

Parameters, their names and their start are those of ``torch.nn``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Convolution(nn.Module):
    """Let a convolution have periodic axes, and be right for tiny bfloat16 inputs on CPUs."""

    circular: tuple[bool, ...] = ()
    weight: Any
    cast: tuple[Tensor, Tensor | None] | None = None
    """Copies of weight and bias in bfloat16 (``networks/cast_weights.py``)."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to [N, C', *spatial']."""
        return convolve(self, x, self.weight)


class Conv1d(Convolution, nn.Conv1d):
    """``nn.Conv1d``, also for rings."""


class Conv2d(Convolution, nn.Conv2d):
    """``nn.Conv2d``, also for periodic axes."""


class Conv3d(Convolution, nn.Conv3d):
    """``nn.Conv3d``, also for periodic axes."""


class ConvTranspose1d(Convolution, nn.ConvTranspose1d):  # type: ignore[misc]
    """``nn.ConvTranspose1d``, also for rings."""


class ConvTranspose2d(Convolution, nn.ConvTranspose2d):  # type: ignore[misc]
    """``nn.ConvTranspose2d``, also for periodic axes."""


class ConvTranspose3d(Convolution, nn.ConvTranspose3d):  # type: ignore[misc]
    """``nn.ConvTranspose3d``, also for periodic axes."""


_CONVOLUTION: dict[int, Any] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
_TRANSPOSED: dict[int, Any] = {1: ConvTranspose1d, 2: ConvTranspose2d, 3: ConvTranspose3d}
_FUNCTION: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED_FUNCTION: dict[int, Any] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def by_dims(table: dict[int, Any], dims: int) -> Any:
    """Return the entry of a number of spatial dimensions, or raise ValueError for a wrong one."""
    if dims not in table:
        raise ValueError(f"dims={dims} is not supported: use 1 (signals), 2 (images), 3 (volumes)")
    return table[dims]


def conv_nd(dims: int, *args: Any, circular: Sequence[bool] = (), **kwargs: Any) -> nn.Module:
    """Return a 1-D, 2-D or 3-D convolution; the other arguments are those of ``nn.Conv2d``.

    Along the axes that ``circular`` names, padding repeats the other end instead of zeros.
    """
    module: nn.Module = by_dims(_CONVOLUTION, dims)(*args, **kwargs)
    module.circular = tuple(circular)  # type: ignore[assignment]
    return module


def conv_transpose_nd(
    dims: int, *args: Any, circular: Sequence[bool] = (), **kwargs: Any
) -> nn.Module:
    """Return a 1-D, 2-D or 3-D transposed convolution, as ``nn.ConvTranspose2d``.

    Along the axes that ``circular`` names, output beyond one end is added at the other.
    """
    module: nn.Module = by_dims(_TRANSPOSED, dims)(*args, **kwargs)
    module.circular = tuple(circular)  # type: ignore[assignment]
    return module


def convolve(conv: Any, x: Tensor, weight: Tensor) -> Tensor:
    """Apply a convolution module with this weight, its own or one computed from it."""
    if not _runs_in_bfloat16(x):
        return _apply(conv, x, weight, conv.bias)
    if min(x.shape[2:]) < 3 or _leaves_one(conv, x):
        with torch.autocast("cpu", enabled=False):
            bias = None if conv.bias is None else conv.bias.float()
            return _apply(conv, x.float(), weight.float(), bias).bfloat16()
    bias = conv.bias
    if conv.cast is not None and weight is conv.weight:
        weight, bias = conv.cast
    return _apply(conv, x, weight, bias, signal=x.dim() == 3)


def _apply(
    conv: Any, x: Tensor, weight: Tensor, bias: Tensor | None, *, signal: bool = False
) -> Tensor:
    """Apply a convolution, that of a ``signal`` as one of a picture with the channels last.

    PyTorch, too, runs a 1-D convolution as that of a picture, but with the channels first, which
    takes several times as long in bfloat16 (``python benchmarks/bfloat16.py``).
    """
    axes = [conv.stride, conv.padding, conv.dilation, conv.output_padding, conv.circular]
    if signal:
        x, weight = channels_last(x), weight.unsqueeze(2)
        axes = [(unit, *axis) for unit, axis in zip((1, 0, 1, 0, False), axes, strict=True)]
    stride, padding, dilation, extra, circular = axes
    if any(circular) and any(padding):
        repeated = [p if wraps else 0 for p, wraps in zip(padding, circular, strict=True)]
        x = wrap(x, repeated)
        # A transposed convolution's padding is cut from its output: what the repeated input made.
        grown = [s if conv.transposed else -1 for s in stride]
        padding = tuple(p + g * r for p, g, r in zip(padding, grown, repeated, strict=True))
    dims = x.dim() - 2
    y: Tensor
    if conv.transposed:
        function = _TRANSPOSED_FUNCTION[dims]
        y = function(x, weight, bias, stride, padding, extra, conv.groups, dilation)
    else:
        y = _FUNCTION[dims](x, weight, bias, stride, padding, dilation, conv.groups)
    # With one input channel PyTorch cannot infer the layout, so it is set again.
    return y.contiguous(memory_format=torch.channels_last).squeeze(2) if signal else y


def channels_last(x: Tensor) -> Tensor:
    """Return signals [N, C, L] as pictures [N, C, 1, L] with the channels last in memory.

    ``squeeze(2)`` of what has this layout is [N, C, L] with the channels last; no copy is made
    where they are there already.
    """
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def wrap(x: Tensor, amounts: Sequence[int]) -> Tensor:
    """Extend each spatial axis of [N, C, *spatial] periodically by this amount at both ends.

    Concatenated instead of padded by ``F.pad``, which does not keep the memory layout.
    """
    for axis, amount in enumerate(amounts, start=2):
        if amount:
            first, last = x.narrow(axis, 0, amount), x.narrow(axis, x.shape[axis] - amount, amount)
            x = torch.cat([last, x, first], dim=axis)
    return x


def _runs_in_bfloat16(x: Tensor) -> bool:
    """Say whether a CPU would convolve this input in bfloat16.

    PyTorch's kernels have errors for some tiny inputs. With AMX the output is wrong, infinite or
    NaN if a stride above 1 leaves a single position of the last axis; so is the input gradient of a
    transposed convolution of a single position. Without AMX an input axis shorter than 3 gave such
    weight gradients, and writes outside the memory (torch 2.13; ``python
    benchmarks/tiny_bfloat16.py``; ``tests/networks/test_convolution.py`` shows the guard). Such
    inputs are small, so computing them in float32 costs little.
    """
    if x.device.type != "cpu":
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


def _leaves_one(conv: Any, x: Tensor) -> bool:
    """Say whether a stride above 1 leaves a single position along some axis."""
    axes = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.padding, strict=True)
    return not conv.transposed and any(s > 1 and n + 2 * p < k + s for n, k, s, p in axes)
