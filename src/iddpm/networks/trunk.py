"""The common part of the U-Net and the classifier: embedding, downward path and middle block."""

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Required, TypedDict, TypeVar

from torch import Tensor, nn

from iddpm.networks.attention import QKVOrder
from iddpm.networks.blocks import (
    AttentionBlock,
    CheckpointEngine,
    Downsample,
    DownsampleKind,
    ResBlock,
    TimestepEmbedSequential,
    default_stride,
)
from iddpm.networks.convolution import conv_nd
from iddpm.networks.layers import linear, num_groups, timestep_embedding

Init = TypeVar("Init", bound=Callable[..., None])


class TrunkOptions(TypedDict, total=False):
    """The keywords that ``UNet`` and ``EncoderUNet`` pass to :class:`Trunk`."""

    model_channels: Required[int]
    num_res_blocks: Required[int | Sequence[int]]
    dims: int
    channel_mult: Sequence[float]
    attention_downsampling: Iterable[int]
    num_heads: int
    num_head_channels: int | None
    qkv_order: QKVOrder
    dropout: float
    use_scale_shift_norm: bool
    downsample: DownsampleKind
    resblock_updown: bool
    stride: Sequence[int] | None
    circular: bool | Sequence[bool]
    group_channels: int
    use_checkpoint: bool
    checkpoint_engine: CheckpointEngine


def with_keywords_of(base: type) -> Callable[[Init], Init]:
    """Return a decorator for an ``__init__`` that passes its ``**options`` to ``base``.

    ``inspect.signature`` and ``help`` then show each option with its default. The defaults are
    written once, in ``base``; type checkers read the ``TypedDict`` of the options.
    """

    def decorate(init: Init) -> Init:
        own = inspect.signature(init)
        merged = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        passed = inspect.signature(base).parameters
        merged += [p for name, p in passed.items() if name not in own.parameters]
        merged[1:] = sorted(merged[1:], key=lambda p: p.default is not p.empty)  # required first
        shown: Any = init
        shown.__signature__ = own.replace(parameters=merged)
        return init

    return decorate


class Trunk(nn.Module):
    """Time embedding, downward path and middle block; arguments as in ``UNet``.

    Names inside (``time_embed``, ``input_blocks``, ``middle_block``) are those of the published
    checkpoints.
    """

    channels_last = True

    def __init__(
        self,
        *,
        in_channels: int,
        model_channels: int,
        num_res_blocks: int | Sequence[int],
        dims: int = 2,
        channel_mult: Sequence[float] = (1, 2, 4, 8),
        attention_downsampling: Iterable[int] = (),
        num_heads: int = 1,
        num_head_channels: int | None = None,
        qkv_order: QKVOrder = "heads_first",
        dropout: float = 0.0,
        use_scale_shift_norm: bool = True,
        downsample: DownsampleKind = "conv",
        resblock_updown: bool = False,
        stride: Sequence[int] | None = None,
        circular: bool | Sequence[bool] = False,
        group_channels: int = 1,
        use_checkpoint: bool = False,
        checkpoint_engine: CheckpointEngine = "function",
    ) -> None:
        super().__init__()
        self.dims = dims
        self.in_channels = in_channels
        self.model_channels = model_channels
        self.num_res_blocks = num_res_blocks
        self.resblock_updown = resblock_updown
        self.num_heads = num_heads
        self.num_head_channels = num_head_channels
        self.qkv_order = qkv_order
        self.dropout = dropout
        self.use_scale_shift_norm = use_scale_shift_norm
        self.group_channels = group_channels
        self.use_checkpoint = use_checkpoint
        self.checkpoint_engine = checkpoint_engine
        self.stride = check_stride(stride, dims)
        self.circular = check_circular(circular, dims)
        self.widths = level_widths(model_channels, channel_mult)
        self.blocks_of_level = level_blocks(num_res_blocks, len(self.widths))
        self.attention_at = check_attention(attention_downsampling, len(self.widths))

        self.emb_channels = 4 * model_channels
        self.time_embed = self._time_embed()
        self._build_path_down(downsample)
        ch = self.widths[-1]
        self.middle_block = TimestepEmbedSequential(
            self._up_block(ch, ch), self._attention(ch, num_heads), self._up_block(ch, ch)
        )

    def _build_path_down(self, downsample: DownsampleKind) -> None:
        ch = self.widths[0]
        self.input_blocks = nn.ModuleList([TimestepEmbedSequential(self._stem(ch))])
        self.stage_channels = [ch]
        for level, width in enumerate(self.widths):
            for _ in range(self.blocks_of_level[level]):
                layers: list[nn.Module] = [self._res_block(ch, width)]
                ch = width
                if 2**level in self.attention_at:
                    layers.append(self._attention(ch, self.num_heads))
                self.input_blocks.append(TimestepEmbedSequential(*layers))
                self.stage_channels.append(ch)
            if level < len(self.widths) - 1:
                down: nn.Module
                if self.resblock_updown:
                    down = self._res_block(ch, ch, down=True)
                else:
                    down = Downsample(
                        ch,
                        dims=self.dims,
                        kind=downsample,
                        stride=self.stride,
                        circular=self.circular,
                    )
                self.input_blocks.append(TimestepEmbedSequential(down))
                self.stage_channels.append(ch)

    def checkpoint_blocks(self) -> list[nn.Module]:
        """Return the blocks whose activations can be computed again."""
        return [m for m in self.modules() if isinstance(m, ResBlock | AttentionBlock)]

    def skip_stages(self) -> list[nn.Module]:
        """Return the stages of the downward path, whose outputs wait for the upward path."""
        return list(self.input_blocks)

    def edge_layers(self) -> list[nn.Module]:
        """Return the modules that receive the data, the time and conditions, or return the output.

        These are the children that are not part of a path of blocks, and the first convolution.
        """
        paths = ("input_blocks", "middle_block", "output_blocks")
        edge = [child for name, child in self.named_children() if name not in paths]
        return [*edge, self.input_blocks[0]]

    def embed_time(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Check the inputs and return the embedding [N, 4 model_channels] of the timesteps."""
        check_input(x, timesteps, self.dims, self.in_channels)
        check_size(x.shape[2:], self.stride, self.widths, self.circular, self.group_channels)
        embedding = timestep_embedding(timesteps, self.model_channels)
        emb: Tensor = self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype))
        return emb

    def _time_embed(self) -> nn.Module:
        return nn.Sequential(
            linear(self.model_channels, self.emb_channels),
            nn.SiLU(),
            linear(self.emb_channels, self.emb_channels),
        )

    def _stem(self, width: int) -> nn.Module:
        """Return the first layer, of ``width`` output channels."""
        return conv_nd(self.dims, self.in_channels, width, 3, padding=1, circular=self.circular)

    def _up_block(self, channels: int, width: int, *, up: bool = False) -> nn.Module:
        """Return a block of the middle or of the upward path."""
        return self._res_block(channels, width, up=up)

    def _res_block(
        self, channels: int, width: int, *, up: bool = False, down: bool = False
    ) -> nn.Module:
        return ResBlock(
            channels,
            self.emb_channels,
            self.dropout,
            out_channels=width,
            dims=self.dims,
            use_scale_shift_norm=self.use_scale_shift_norm,
            up=up,
            down=down,
            stride=self.stride,
            circular=self.circular,
            group_channels=self.group_channels,
            use_checkpoint=self.use_checkpoint,
            checkpoint_engine=self.checkpoint_engine,
        )

    def _attention(self, channels: int, num_heads: int) -> nn.Module:
        return AttentionBlock(
            channels,
            num_heads=num_heads,
            num_head_channels=self.num_head_channels,
            qkv_order=self.qkv_order,
            group_channels=self.group_channels,
            use_checkpoint=self.use_checkpoint,
            checkpoint_engine=self.checkpoint_engine,
        )


def level_widths(model_channels: int, channel_mult: Sequence[float]) -> list[int]:
    """Return the channels of each level; ValueError where there is none or one is empty."""
    widths = [int(mult * model_channels) for mult in channel_mult]
    if not widths or min(widths) < 1:
        raise ValueError(
            f"model_channels={model_channels} with channel_mult={tuple(channel_mult)} leaves "
            "a level without channels"
        )
    return widths


def level_blocks(num_res_blocks: int | Sequence[int], levels: int) -> list[int]:
    """Return the residual blocks of each level, from their number or one number for each level.

    Raises:
        ValueError: another number of levels, or a level without blocks.
    """
    blocks = [num_res_blocks] * levels if isinstance(num_res_blocks, int) else [*num_res_blocks]
    if len(blocks) != levels or min(blocks) < 1:
        raise ValueError(
            f"num_res_blocks={list(blocks)} must have a number of at least 1 for each of the "
            f"{levels} levels of channel_mult, or be one number for all"
        )
    return blocks


def check_stride(stride: Sequence[int] | None, dims: int) -> tuple[int, ...]:
    """Return the resizing factor per axis, or raise ValueError where it does not fit ``dims``."""
    strides = tuple(stride or default_stride(dims))
    if len(strides) != dims or not set(strides) <= {1, 2}:
        raise ValueError(f"stride={strides} must hold a 1 or a 2 for each of the {dims} axes")
    return strides


def check_circular(circular: bool | Sequence[bool], dims: int) -> tuple[bool, ...]:
    """Return whether each axis is periodic, or raise ValueError where that does not fit."""
    axes = (circular,) * dims if isinstance(circular, bool) else tuple(circular)
    if len(axes) != dims:
        raise ValueError(
            f"circular={axes} must be true or false for each of the {dims} axes, or true for all"
        )
    return axes


def check_attention(factors: Iterable[int], levels: int) -> set[int]:
    """Return the downsampling factors as a set, or raise ValueError for one that has no level."""
    wanted = set(factors)
    present = {2**level for level in range(levels)}
    if not wanted <= present:
        raise ValueError(
            f"attention_downsampling={tuple(sorted(wanted))} names factors that no level has; "
            f"{levels} levels have {tuple(sorted(present))} (factors, not pixels)"
        )
    return wanted


def check_input(x: Tensor, timesteps: Tensor, dims: int, channels: int) -> None:
    """Raise ValueError unless ``x`` is [N, channels, *spatial] and ``timesteps`` is [N]."""
    if x.dim() != dims + 2 or x.shape[1] != channels:
        axes = ", ".join(["L", "H, W", "D, H, W"][dims - 1 : dims])
        raise ValueError(f"the network takes [N, {channels}, {axes}], not {list(x.shape)}")
    if timesteps.shape != x.shape[:1]:
        raise ValueError(
            f"the network takes one timestep for each of the {x.shape[0]} items, not "
            f"timesteps of shape {list(timesteps.shape)}"
        )


def check_size(
    size: Sequence[int],
    stride: Sequence[int],
    widths: Sequence[int],
    circular: Sequence[bool] = (),
    group_channels: int | None = 1,
) -> None:
    """Raise ValueError for a size that the network does not support.

    A size is too small if a normalization group holds a single value, which is always normalized
    to zero; ``group_channels`` is None for networks without groups. A periodic axis must be
    divisible by the total stride: otherwise sizes are rounded up and cropped, which breaks the
    periodicity.
    """
    spatial = tuple(size)
    for axis, wraps in enumerate(circular):
        total = stride[axis] ** (len(widths) - 1)
        if wraps and size[axis] % total:
            raise ValueError(
                f"size {spatial} is {size[axis]} along the periodic axis {axis}, which the "
                f"{len(widths)} levels divide by {total}: use a multiple of {total}, fewer levels "
                "in channel_mult, or circular=false there"
            )
    for level, width in enumerate(widths):
        if group_channels is None:
            break
        if width // num_groups(width, group_channels) * math.prod(spatial) < 2:
            raise ValueError(
                f"size {tuple(size)} shrinks to {spatial} at level {level}, where a normalization "
                "group would hold a single value: use larger data, fewer levels in channel_mult, "
                "or more channels in a group (model.group_channels)"
            )
        spatial = tuple(-(-n // s) for n, s in zip(spatial, stride, strict=True))
