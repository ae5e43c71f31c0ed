"""Layers by number of spatial dimensions, and the small pieces that every block is made of."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_GROUPS = 32
"""Groups of a group normalization in the published networks (Ho et al. 2020, appendix B)."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


_TRANSPOSED_FUNCTION: dict[int, Any] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}


def _unsafe_in_bfloat16(x: Tensor) -> bool:
    """Say whether PyTorch's CPU kernels could get a bfloat16 convolution of this input wrong.

    With an input axis shorter than 3 some return weight gradients that are 100 % wrong, infinite
    or NaN, and some write outside their memory: in 3-D often, in 1-D and 2-D where an axis of
    length 1 meets stride 2 (seen with torch 2.13, on processors with AMX and without;
    ``tests/networks/test_layers.py`` shows the guard, ``docs/networks.md`` the measurement). Such
    inputs are tiny, so computing them in float32 costs nothing.
    """
    if x.device.type != "cpu" or min(x.shape[2:]) >= 3:
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return x.dtype == torch.bfloat16


def _in_float32(conv: Any, x: Tensor) -> Tensor:
    """Apply a convolution module in float32 and return bfloat16, as its kernel would."""
    with torch.autocast("cpu", enabled=False):
        weight = conv.weight.float()
        bias = None if conv.bias is None else conv.bias.float()
        y: Tensor
        if conv.transposed:
            function = _TRANSPOSED_FUNCTION[x.dim() - 2]
            shape = (conv.stride, conv.padding, conv.output_padding, conv.groups, conv.dilation)
            y = function(x.float(), weight, bias, *shape)
        else:
            y = conv._conv_forward(x.float(), weight, bias)
    return y.bfloat16()


class Conv1d(nn.Conv1d):
    """``nn.Conv1d`` that stays right for tiny bfloat16 inputs on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, L] to [N, C', L']."""
        return _in_float32(self, x) if _unsafe_in_bfloat16(x) else super().forward(x)


class Conv2d(nn.Conv2d):
    """``nn.Conv2d`` that stays right for tiny bfloat16 inputs on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        return _in_float32(self, x) if _unsafe_in_bfloat16(x) else super().forward(x)


class Conv3d(nn.Conv3d):
    """``nn.Conv3d`` that stays right for tiny bfloat16 inputs on CPUs."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, D, H, W] to [N, C', D', H', W']."""
        return _in_float32(self, x) if _unsafe_in_bfloat16(x) else super().forward(x)


class ConvTranspose1d(nn.ConvTranspose1d):
    """``nn.ConvTranspose1d`` that stays right for tiny bfloat16 inputs on CPUs."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Map [N, C, L] to [N, C', L']."""
        return _in_float32(self, x) if _unsafe_in_bfloat16(x) else super().forward(x, output_size)


class ConvTranspose2d(nn.ConvTranspose2d):
    """``nn.ConvTranspose2d`` that stays right for tiny bfloat16 inputs on CPUs."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Map [N, C, H, W] to [N, C', H', W']."""
        return _in_float32(self, x) if _unsafe_in_bfloat16(x) else super().forward(x, output_size)


class ConvTranspose3d(nn.ConvTranspose3d):
    """``nn.ConvTranspose3d`` that stays right for tiny bfloat16 inputs on CPUs."""

    def forward(self, x: Tensor, output_size: Any = None) -> Tensor:
        """Map [N, C, D, H, W] to [N, C', D', H', W']."""
        return _in_float32(self, x) if _unsafe_in_bfloat16(x) else super().forward(x, output_size)


class TokenLinear(nn.Conv1d):
    """A linear map of [N, L, C], its weight kept in the published shape [C', C, 1].

    The published attention uses a 1x1 convolution of [N, C, L]: the same numbers in another
    layout, which on CPUs costs two reorderings more.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, L, C] to [N, L, C']."""
        return F.linear(x, self.weight.squeeze(-1), self.bias)


_CONVOLUTION: dict[int, Any] = {1: Conv1d, 2: Conv2d, 3: Conv3d}
_TRANSPOSED: dict[int, Any] = {1: ConvTranspose1d, 2: ConvTranspose2d, 3: ConvTranspose3d}
_AVERAGE_POOL: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_LINEAR_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def _by_dims(table: dict[int, Any], dims: int) -> Any:
    if dims not in table:
        raise ValueError(f"dims={dims} is not supported: use 1 (signals), 2 (images), 3 (volumes)")
    return table[dims]


def conv_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Return a 1-D, 2-D or 3-D convolution; the other arguments are those of ``nn.Conv2d``."""
    module: nn.Module = _by_dims(_CONVOLUTION, dims)(*args, **kwargs)
    return module


def conv_transpose_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Return a 1-D, 2-D or 3-D transposed convolution, as ``nn.ConvTranspose2d``."""
    module: nn.Module = _by_dims(_TRANSPOSED, dims)(*args, **kwargs)
    return module


def avg_pool_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Return a 1-D, 2-D or 3-D average pooling; the other arguments are those of ``nn.AvgPool2d``.

    Any number of axes passes through here, ``dims`` always first: the published 3-D downsampling
    forgot it and built a pooling of the wrong dimension.
    """
    module: nn.Module = _by_dims(_AVERAGE_POOL, dims)(*args, **kwargs)
    return module


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Return a linear layer."""
    return nn.Linear(in_features, out_features, bias=bias)


def num_groups(channels: int) -> int:
    """Return the number of groups for ``channels``: its largest divisor that is at most 32."""
    return max(n for n in range(1, MAX_GROUPS + 1) if channels % n == 0)


class GroupNorm(nn.GroupNorm):
    """Group normalization; bfloat16 pictures on CPUs are normalized with the channels first.

    PyTorch's kernel for bfloat16 with the channels last takes up to seven times as long, forward
    and backward, as the one for channels first with both copies around it
    (``python benchmarks/bfloat16.py``).
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; the result has the layout of ``x``."""
        slow = x.device.type == "cpu" and x.dtype == torch.bfloat16 and x.dim() == 4
        if not slow or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def normalization(channels: int) -> GroupNorm:
    """Return the group normalization of ``channels`` channels; any width works."""
    return GroupNorm(num_groups(channels), channels)


def zero_module(module: AnyModule) -> AnyModule:
    """Set every parameter of ``module`` to zero, once, and return the module.

    The layer learns all the same: the gradient of its weight is its input times the gradient that
    arrives, and neither is zero. ``notebooks/network.ipynb`` shows it step by step.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module


def resize_linear(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize [N, C, *spatial] to the spatial ``size`` by (bi-, tri-) linear interpolation."""
    mode = _by_dims(_LINEAR_RESIZE, x.dim() - 2)
    return F.interpolate(x, tuple(size), mode=mode)


def timestep_embedding(timesteps: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Embed timesteps by sinusoids: the cosine half first, then the sine half.

    Frequencies fall geometrically from 1 to 1 / ``max_period`` (Vaswani et al. 2017, section 3.5).

    Args:
        timesteps: [N], any real numbers; fractions are honoured.
        dim: width of the embedding; an odd width is padded with one zero column.
        max_period: the longest period divided by 2 pi.

    Returns:
        float32 [N, dim].
    """
    half = dim // 2
    exponent = torch.arange(half, dtype=torch.float32, device=timesteps.device) / max(half, 1)
    frequencies = torch.exp(-math.log(max_period) * exponent)
    angles = timesteps[:, None].float() * frequencies[None]
    embedding = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
    return F.pad(embedding, (0, dim % 2))
