"""Layers by number of spatial dimensions, and the basic parts of every block."""

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddpm.networks.convolution import by_dims
from iddpm.networks.kernels import HasFastKernel

MAX_GROUPS = 32
"""Groups of a group normalization in the published networks (Ho et al. 2020, appendix B)."""
MANY = 1024
"""Positions from which PyTorch normalizes data with its channels last by a fast kernel."""

AnyModule = TypeVar("AnyModule", bound=nn.Module)


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


_AVERAGE_POOL: dict[int, Any] = {1: nn.AvgPool1d, 2: nn.AvgPool2d, 3: nn.AvgPool3d}
_LINEAR_RESIZE = {1: "linear", 2: "bilinear", 3: "trilinear"}


def avg_pool_nd(dims: int, *args: Any, **kwargs: Any) -> nn.Module:
    """Return a 1-D, 2-D or 3-D average pooling; the other arguments are those of ``nn.AvgPool2d``.

    Any number of axes passes through here, ``dims`` always first: the published 3-D downsampling
    forgot it and built a pooling of the wrong dimension.
    """
    module: nn.Module = by_dims(_AVERAGE_POOL, dims)(*args, **kwargs)
    return module


def linear(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    """Return a linear layer."""
    return nn.Linear(in_features, out_features, bias=bias)


def num_groups(channels: int, least: int = 1) -> int:
    """Return the number of groups for ``channels``: its largest divisor that is at most 32.

    ``least`` is the fewest channels of a group. A group of one channel loses that channel's mean,
    and a network that has no others the level of its data.
    """
    most = max(min(MAX_GROUPS, channels // least), 1)
    return max(n for n in range(1, most + 1) if channels % n == 0)


class GroupNorm(HasFastKernel, nn.GroupNorm):
    """Group normalization that goes around a slow kernel for bfloat16 on CPUs.

    PyTorch's kernel for bfloat16 with the channels last takes up to twenty times as long going
    backward, and up to seven times as long going forward over fewer than ``MANY`` positions, as the
    one for channels first with both copies around it (``python benchmarks/bfloat16.py``).

    With ``fast``, ``networks/norm_activation.py`` may round differently.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize; the result has the layout of ``x``."""
        if x.device.type != "cpu" or x.dtype != torch.bfloat16:
            return super().forward(x)
        if x.dim() == 3:  # only of pictures does PyTorch keep the layout
            return self.forward(x.unsqueeze(2)).squeeze(2)
        fast = x.shape[2:].numel() >= MANY and not torch.is_grad_enabled()
        if x.dim() != 4 or fast or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def normalization(channels: int, least: int = 1) -> GroupNorm:
    """Return the group normalization of ``channels`` channels; see :func:`num_groups`."""
    return GroupNorm(num_groups(channels, least), channels)


def zero_module(module: AnyModule) -> AnyModule:
    """Set every parameter of ``module`` to zero, once, and return the module.

    The layer learns all the same: the gradient of its weight is its input times the gradient that
    arrives, and neither is zero. ``notebooks/network.ipynb`` shows it step by step.
    """
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    return module


def resize_linear(x: Tensor, size: Sequence[int], circular: Sequence[bool] = ()) -> Tensor:
    """Resize [N, C, *spatial] to the spatial ``size`` by (bi-, tri-) linear interpolation.

    Along the axes that ``circular`` names, the last value and the first are neighbors.
    """
    for axis, wraps in enumerate(circular, start=2):
        if wraps:
            x = _resize_ring(x, axis, size[axis - 2])
    mode = by_dims(_LINEAR_RESIZE, x.dim() - 2)
    return F.interpolate(x, tuple(size), mode=mode)


def _resize_ring(x: Tensor, axis: int, size: int) -> Tensor:
    """Resize one axis of a ring, with the positions that ``F.interpolate`` takes elsewhere."""
    old = x.shape[axis]
    place = (torch.arange(size, dtype=torch.float64, device=x.device) + 0.5) * (old / size) - 0.5
    before = place.floor()
    left, right = (x.index_select(axis, (before + k).long() % old) for k in (0, 1))
    share = (place - before).to(x.dtype).reshape(-1, *[1] * (x.dim() - axis - 1))
    return torch.lerp(left, right, share)


def timestep_embedding(timesteps: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Embed timesteps by sinusoids: the cosine half first, then the sine half.

    Frequencies fall geometrically from 1 to 1 / ``max_period`` (Vaswani et al. 2017, section 3.5).

    Args:
        timesteps: [N], any real numbers; fractions are honored.
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
