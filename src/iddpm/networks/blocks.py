"""The blocks of the U-Net: resizing, residual and attention blocks, and how the embedding flows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddpm.networks.attention import QKVOrder, count_heads, self_attention
from iddpm.networks.checkpointing import CheckpointEngine as CheckpointEngine
from iddpm.networks.checkpointing import run_block
from iddpm.networks.convolution import conv_nd, conv_transpose_nd
from iddpm.networks.dropout import Dropout
from iddpm.networks.kernels import HasFastKernel
from iddpm.networks.layers import (
    GroupNorm,
    TokenLinear,
    avg_pool_nd,
    linear,
    normalization,
    zero_module,
)
from iddpm.networks.norm_activation import norm_activation

UpsampleKind = Literal["transpose", "nearest_conv", "nearest"]
DownsampleKind = Literal["conv", "avg_pool"]


def default_stride(dims: int) -> tuple[int, ...]:
    """Return the resizing factor of each axis: 2, and 1 for the depth of volumes and clips."""
    return (1, 2, 2) if dims == 3 else (2,) * dims


class TimestepBlock(nn.Module, ABC):
    """The base of every module whose ``forward`` takes the timestep embedding beside ``x``."""

    @abstractmethod
    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Apply the module to ``x`` [N, C, *spatial] given ``emb`` [N, E]."""


class TimestepEmbedSequential(nn.Sequential, TimestepBlock):
    """A sequence that passes the embedding to the children that take it."""

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:  # type: ignore[override]
        """Apply the children in order."""
        for layer in self:
            x = layer(x, emb) if isinstance(layer, TimestepBlock) else layer(x)
        return x


class Upsample(nn.Module):
    """Double the spatial axes of [N, C, *spatial]; by default the depth of a volume is untouched.

    Args:
        channels: channels of the input.
        dims: 1, 2 or 3 spatial axes.
        kind: ``"transpose"``: a learned transposed convolution, per axis kernel 4, stride 2,
            padding 1 where the axis doubles and kernel 3, stride 1, padding 1 where it does not.
            ``"nearest_conv"``: nearest neighbors, then a convolution of kernel 3 (the published
            networks). ``"nearest"``: nearest neighbors alone.
        out_channels: channels of the output, ``channels`` by default.
        stride: factor (1 or 2) per axis; (1, 2, 2) for volumes and 2 everywhere otherwise.
        smooth_start: start the transposed kernel as linear interpolation of each channel, so that
            an untrained network draws no checkerboard; False keeps PyTorch's random start.
        circular: the axes that are periodic, one boolean each; none by default.
    """

    def __init__(
        self,
        channels: int,
        *,
        dims: int = 2,
        kind: UpsampleKind = "transpose",
        out_channels: int | None = None,
        stride: Sequence[int] | None = None,
        smooth_start: bool = True,
        circular: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.stride = tuple(stride or default_stride(dims))
        self.kind = kind
        if kind == "transpose":
            kernel = tuple(4 if s == 2 else 3 for s in self.stride)
            self.conv = conv_transpose_nd(
                dims,
                channels,
                out_channels,
                kernel,
                stride=self.stride,
                padding=1,
                circular=circular,
            )
            if smooth_start:
                _start_as_interpolation(self.conv, self.stride)
        elif kind == "nearest_conv":
            self.conv = conv_nd(dims, channels, out_channels, 3, padding=1, circular=circular)
        elif channels != out_channels:
            raise ValueError(
                f"upsample={kind!r} has no weights and keeps its {channels} channels; "
                f"it cannot give {out_channels}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to [N, C', *(s * stride)]."""
        if self.kind == "transpose":
            return self.conv(x)  # type: ignore[no-any-return]
        size = [n * s for n, s in zip(x.shape[2:], self.stride, strict=True)]
        x = F.interpolate(x, size, mode="nearest")
        return self.conv(x) if self.kind == "nearest_conv" else x


@torch.no_grad()
def _start_as_interpolation(conv: nn.Module, stride: Sequence[int]) -> None:
    """Fill a transposed convolution with the identity over channels times linear interpolation.

    Along a doubled axis the taps (1, 3, 3, 1) / 4 are those of linear interpolation; they overlap
    so that every output receives a total weight of 1 (one line less at the border).
    """
    taps = torch.ones(())
    for s in stride:
        axis = torch.tensor([0.25, 0.75, 0.75, 0.25] if s == 2 else [0.0, 1.0, 0.0])
        taps = taps[..., None] * axis
    weight, bias = conv.weight, conv.bias
    assert isinstance(weight, Tensor)
    assert isinstance(bias, Tensor)
    eye = torch.eye(weight.shape[0], weight.shape[1])
    weight.copy_(eye.reshape(*eye.shape, *[1] * len(stride)) * taps)
    bias.zero_()


class Downsample(nn.Module):
    """Halve the spatial axes of [N, C, *spatial], rounding up; the depth of a volume stays.

    Args:
        channels: channels of the input.
        dims: 1, 2 or 3 spatial axes.
        kind: ``"conv"``: a convolution of kernel 3, padding 1, with the stride; ``"avg_pool"``:
            an average, which rounds sizes up as the convolution does.
        out_channels: channels of the output, ``channels`` by default.
        stride: factor (1 or 2) per axis; (1, 2, 2) for volumes and 2 everywhere otherwise.
        circular: the axes that are periodic, one boolean each; none by default.
    """

    def __init__(
        self,
        channels: int,
        *,
        dims: int = 2,
        kind: DownsampleKind = "conv",
        out_channels: int | None = None,
        stride: Sequence[int] | None = None,
        circular: Sequence[bool] = (),
    ) -> None:
        super().__init__()
        out_channels = out_channels or channels
        strides = tuple(stride or default_stride(dims))
        self.kind = kind
        self.stride = strides
        if kind == "conv":
            self.op = conv_nd(
                dims, channels, out_channels, 3, stride=strides, padding=1, circular=circular
            )
        elif channels == out_channels:
            self.op = avg_pool_nd(dims, kernel_size=strides, stride=strides, ceil_mode=True)
        else:
            raise ValueError(
                f"downsample={kind!r} has no weights and keeps its {channels} channels; "
                f"it cannot give {out_channels}"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to [N, C', *ceil(s / stride)]."""
        if self.kind == "avg_pool":
            for axis, factor in enumerate(self.stride, start=2):
                if x.shape[axis] < factor:  # 3-D pooling refuses what its ceil_mode is for
                    x = x.repeat_interleave(factor, dim=axis)
            # In 3-D, PyTorch averages no bfloat16 on CPUs, and autocast lifts what follows.
            y: Tensor = self.op(x.float() if x.dim() == 5 and x.itemsize == 2 else x)
            return y.to(x.dtype)
        return self.op(x)  # type: ignore[no-any-return]


class ResBlock(TimestepBlock):
    """Residual block that the timestep embedding modulates (Nichol & Dhariwal 2021, section 2.4).

    Args:
        channels: channels of the input.
        emb_channels: width of the embedding.
        dropout: probability of zeroing a unit before the last convolution.
        out_channels: channels of the output, ``channels`` by default.
        use_conv: where the channels change, a kernel-3 convolution on the skip instead of 1x1.
        use_scale_shift_norm: FiLM, ``norm(h) * (1 + scale) + shift`` (Perez et al. 2018);
            otherwise the embedding is added before the norm.
        dims: 1, 2 or 3 spatial axes.
        up, down: resize inside the block (Song et al. 2021; guided-diffusion), without weights.
        stride: factor per axis for ``up`` and ``down``.
        circular: the axes that are periodic, one boolean each; none by default.
        group_channels: the fewest channels of a normalization group.
        use_checkpoint: recompute the block in the backward pass instead of storing activations.
        checkpoint_engine: ``"function"`` for :class:`CheckpointFunction`, ``"torch"`` for
            PyTorch's own, which torch.compile and FSDP accept.
    """

    def __init__(
        self,
        channels: int,
        emb_channels: int,
        dropout: float = 0.0,
        *,
        out_channels: int | None = None,
        use_conv: bool = False,
        use_scale_shift_norm: bool = False,
        dims: int = 2,
        up: bool = False,
        down: bool = False,
        stride: Sequence[int] | None = None,
        circular: Sequence[bool] = (),
        group_channels: int = 1,
        use_checkpoint: bool = False,
        checkpoint_engine: CheckpointEngine = "function",
    ) -> None:
        super().__init__()
        assert not (up and down), "a block cannot upsample and downsample at once"
        out_channels = out_channels or channels
        self.use_scale_shift_norm = use_scale_shift_norm
        self.use_checkpoint = use_checkpoint
        self.checkpoint_engine = checkpoint_engine
        self.in_layers = nn.Sequential(
            normalization(channels, group_channels),
            nn.SiLU(),
            conv_nd(dims, channels, out_channels, 3, padding=1, circular=circular),
        )
        self.resize: nn.Module | None = None  # one for both branches: it has no parameters
        if up:
            self.resize = Upsample(channels, dims=dims, kind="nearest", stride=stride)
        elif down:
            self.resize = Downsample(channels, dims=dims, kind="avg_pool", stride=stride)
        self.emb_layers = nn.Sequential(
            nn.SiLU(),
            linear(emb_channels, 2 * out_channels if use_scale_shift_norm else out_channels),
        )
        self.out_layers = nn.Sequential(
            normalization(out_channels, group_channels),
            nn.SiLU(),
            Dropout(p=dropout),
            zero_module(conv_nd(dims, out_channels, out_channels, 3, padding=1, circular=circular)),
        )
        self.skip_connection: nn.Module = nn.Identity()
        if out_channels != channels:
            kernel, padding = (3, 1) if use_conv else (1, 0)
            self.skip_connection = conv_nd(
                dims, channels, out_channels, kernel, padding=padding, circular=circular
            )

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map [N, C, *spatial] and [N, E] to [N, C', *spatial']."""
        return run_block(self, x, emb)

    def _forward(self, x: Tensor, emb: Tensor) -> Tensor:
        in_norm, in_activation, in_conv = self.in_layers
        out_norm, out_activation, dropout, out_conv = self.out_layers
        assert isinstance(in_norm, GroupNorm)
        assert isinstance(out_norm, GroupNorm)
        h = norm_activation(in_norm, in_activation, x)
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = in_conv(h)
        emb = self.emb_layers(emb)
        if self.use_scale_shift_norm:
            h = norm_activation(out_norm, out_activation, h, *emb.chunk(2, dim=1))
        else:
            h = norm_activation(out_norm, out_activation, h + emb[..., *[None] * (h.dim() - 2)])
        y: Tensor = self.skip_connection(x) + out_conv(dropout(h))
        return y


class AttentionBlock(HasFastKernel):
    """Multi-head self-attention over all positions of [N, C, *spatial], added to the input.

    Args:
        channels: channels of input and output.
        num_heads: number of heads; ignored when ``num_head_channels`` is given.
        num_head_channels: width of a head, from which their number follows.
        qkv_order: how the 3 C channels of ``qkv`` are laid out. ``"heads_first"``: for each head
            its q, k, v (improved-diffusion); ``"qkv_first"``: all q, then all k, then all v
            (guided-diffusion with ``use_new_attention_order``).
        group_channels, use_checkpoint, checkpoint_engine: as in :class:`ResBlock`.

    Raises:
        ValueError: the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int = 1,
        num_head_channels: int | None = None,
        qkv_order: QKVOrder = "heads_first",
        group_channels: int = 1,
        use_checkpoint: bool = False,
        checkpoint_engine: CheckpointEngine = "function",
    ) -> None:
        super().__init__()
        self.num_heads = count_heads(channels, num_heads, num_head_channels)
        self.qkv_order = qkv_order
        self.use_checkpoint = use_checkpoint
        self.checkpoint_engine = checkpoint_engine
        self.norm = normalization(channels, group_channels)
        self.qkv = TokenLinear(channels, 3 * channels)
        self.proj_out = zero_module(TokenLinear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to the same shape."""
        return run_block(self, x)

    def _forward(self, x: Tensor) -> Tensor:
        tokens = norm_activation(self.norm, None, x).flatten(2).mT
        by_products = self.fast and self.training
        h = self_attention(self.qkv(tokens), self.num_heads, self.qkv_order, by_products)
        h = self.proj_out(h)
        y: Tensor = x + h.mT.reshape(x.shape)
        return y
