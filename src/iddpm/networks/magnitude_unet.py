"""The U-Net without group normalization, of magnitude-preserving layers (EDM2)."""

from collections.abc import Iterable, Sequence
from typing import Required, TypedDict, Unpack

import torch
from torch import Tensor, nn

from iddpm.networks.attention import count_heads
from iddpm.networks.blocks import CheckpointEngine, Downsample, Upsample
from iddpm.networks.condition_embedding import ConditionKind
from iddpm.networks.magnitude_blocks import (
    BlockOptions,
    MagnitudeAttention,
    MagnitudeBlock,
    MagnitudeConditions,
)
from iddpm.networks.magnitude_layers import (
    MagnitudeEmbedding,
    MagnitudeFeatures,
    MagnitudeHead,
    MagnitudeLinear,
    MagnitudeStem,
    magnitude_cat,
    magnitude_embedding,
    magnitude_sum,
    normal_frequencies,
)
from iddpm.networks.super_resolution import SuperResUNet
from iddpm.networks.trunk import check_input, check_size
from iddpm.networks.unet import NO_CLASS, UNet, crop


class MagnitudeOptions(TypedDict, total=False):
    """The keywords of :class:`MagnitudeUNet`, with the meaning that they have in ``UNet``."""

    in_channels: Required[int]
    out_channels: Required[int]
    model_channels: Required[int]
    num_res_blocks: Required[int | Sequence[int]]
    dims: int
    channel_mult: Sequence[float]
    attention_downsampling: Iterable[int]
    num_heads: int
    num_head_channels: int | None
    num_heads_upsample: int | None
    dropout: float
    num_classes: int | None
    conditions: Sequence[ConditionKind]
    given_channels: int
    numbers: Sequence[str]
    augmentation: int
    stride: Sequence[int] | None
    circular: bool | Sequence[bool]
    use_checkpoint: bool
    checkpoint_engine: CheckpointEngine


class MagnitudeUNet(UNet):
    """The U-Net of EDM2 (Karras et al. 2024, configuration G): no biases, no group normalization.

    It is called as :class:`~iddpm.networks.unet.UNet` and takes those of its keywords that
    :class:`MagnitudeOptions` names. Blocks resize by averages and nearest neighbors. Weights are
    normalized when they are used, and ``normalize_weights`` of each layer normalizes the stored
    ones: call it after every step of an optimizer, as :class:`~iddpm.training.step.TrainStep` does.
    The learning rate is relative to weights of magnitude 1; the paper's is 0.01.

    Where a class or a condition is unknown, it is left out of the sum of embeddings, whose
    magnitude stays 1.

    Raises:
        ValueError: numbers that do not fit together, named in the message.

    >>> network = MagnitudeUNet(
    ...     dims=2, in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1, 2), num_classes=10,
    ... )
    >>> network(torch.randn(2, 1, 8, 8), torch.zeros(2), y=torch.tensor([3, NO_CLASS])).shape
    torch.Size([2, 2, 8, 8])
    """

    def __init__(self, **options: Unpack[MagnitudeOptions]) -> None:
        super().__init__(resblock_updown=True, **options)

    def checkpoint_blocks(self) -> list[nn.Module]:
        """Return the blocks whose activations can be computed again."""
        return [m for m in self.modules() if isinstance(m, MagnitudeBlock | MagnitudeAttention)]

    def embed_time(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Check the inputs and return the embedding [N, 4 model_channels] of the timesteps."""
        check_input(x, timesteps, self.dims, self.in_channels)
        check_size(x.shape[2:], self.stride, self.widths, self.circular, None)
        embedding = magnitude_embedding(timesteps, self.frequencies, self.model_channels)
        emb: Tensor = self.time_embed(embedding.to(next(self.time_embed.parameters()).dtype))
        return emb

    def with_conditioning(self, emb: Tensor, y: Tensor | None, conditions: Tensor | None) -> Tensor:
        """Return the sum of the known embeddings over the root of their number."""
        count = torch.ones_like(emb[:, :1])
        if y is not None:
            count = count + (y != NO_CLASS).to(emb.dtype)[:, None]
        if conditions is not None and self.condition_emb is not None:
            count = count + conditions.isfinite().sum(1, keepdim=True).to(emb.dtype)
        return super().with_conditioning(emb, y, conditions) * count.rsqrt()

    def join_skip(self, h: Tensor, skip: Tensor) -> Tensor:
        """Join the channels of both paths, each with half of the influence."""
        return magnitude_cat(crop(h, skip.shape[2:]), skip)

    def _time_embed(self) -> nn.Module:
        self.frequencies = normal_frequencies(self.model_channels // 2)
        return MagnitudeLinear(self.model_channels, self.emb_channels)

    def _label_emb(self, num_classes: int) -> nn.Module:
        return MagnitudeEmbedding(num_classes, self.emb_channels)

    def _condition_emb(self, conditions: Sequence[ConditionKind]) -> MagnitudeConditions:
        return MagnitudeConditions(conditions, self.emb_channels)

    def _stem(self, width: int) -> nn.Module:
        return MagnitudeStem(self.dims, self.in_channels, width, self.circular)

    def _head(self, width: int) -> nn.Module:
        return MagnitudeHead(self.dims, width, self.out_channels, self.circular)

    def _res_block(
        self, channels: int, width: int, *, up: bool = False, down: bool = False
    ) -> nn.Module:
        resize = None
        if down:
            resize = Downsample(channels, dims=self.dims, kind="avg_pool", stride=self.stride)
        return MagnitudeBlock(channels, width, self._options(), encodes=True, resize=resize)

    def _up_block(self, channels: int, width: int, *, up: bool = False) -> nn.Module:
        resize = None
        if up:
            resize = Upsample(channels, dims=self.dims, kind="nearest", stride=self.stride)
        return MagnitudeBlock(channels, width, self._options(), encodes=False, resize=resize)

    def _attention(self, channels: int, num_heads: int) -> nn.Module:
        heads = count_heads(channels, num_heads, self.num_head_channels)
        return MagnitudeAttention(channels, heads, self._options())

    def _options(self) -> BlockOptions:
        return BlockOptions(
            self.emb_channels,
            self.dims,
            self.dropout,
            self.circular,
            self.use_checkpoint,
            self.checkpoint_engine,
        )


class MagnitudeSuperResUNet(MagnitudeUNet, SuperResUNet):
    """A :class:`MagnitudeUNet` that is conditioned on a low-resolution version of its data.

    It is called as :class:`~iddpm.networks.super_resolution.SuperResUNet`, whose ``noise_levels``
    it takes too.
    """

    def __init__(self, *, noise_levels: bool = False, **options: Unpack[MagnitudeOptions]) -> None:
        SuperResUNet.__init__(self, noise_levels=noise_levels, resblock_updown=True, **options)

    def _noise_embed(self) -> nn.Module:
        return MagnitudeFeatures(self.model_channels, self.emb_channels)

    def _with_noise(self, emb: Tensor, noise_emb: Tensor) -> Tensor:
        return magnitude_sum(emb, noise_emb, 0.5)
