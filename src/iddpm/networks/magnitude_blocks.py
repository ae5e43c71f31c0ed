"""The blocks of the magnitude-preserving U-Net (Karras et al. 2024, EDM2, figure 3 and B.6)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddpm.networks.attention import self_attention
from iddpm.networks.blocks import TimestepBlock
from iddpm.networks.checkpointing import CheckpointEngine, run_block
from iddpm.networks.condition_embedding import ConditionEmbedding
from iddpm.networks.magnitude_layers import (
    SILU_MAGNITUDE,
    MagnitudeConv,
    MagnitudeEmbedding,
    MagnitudeFeatures,
    MagnitudeLinear,
    magnitude_silu,
    sum_weights,
    to_unit,
)

BRANCH_SHARE = 0.3
"""Share of the residual branch, and of attention, in the sum with what passes by (section 2.5)."""


@dataclass(frozen=True)
class BlockOptions:
    """What the blocks of a network have in common.

    Attributes:
        emb_channels: width of the embedding.
        dims: 1, 2 or 3 spatial axes.
        dropout: probability of zeroing a unit before the last convolution of a residual block.
        circular: the axes that are periodic, one boolean each; none by default.
        use_checkpoint, checkpoint_engine: as in :class:`~iddpm.networks.blocks.ResBlock`.
    """

    emb_channels: int
    dims: int = 2
    dropout: float = 0.0
    circular: tuple[bool, ...] = ()
    use_checkpoint: bool = False
    checkpoint_engine: CheckpointEngine = "function"


class MagnitudeBlock(TimestepBlock):
    """Residual block of a magnitude-preserving U-Net.

    The embedding multiplies the channels between the two convolutions by 1 + gain * linear(emb),
    with a learned gain that starts at zero. Blocks of the downward path bring each position to
    magnitude 1 first.

    Constant factors, 1 / 0.596 of the SiLU and those of the sum, are applied to the weights of the
    convolutions, which are smaller than the activations.

    Args:
        channels: channels of the input.
        out_channels: channels of the output.
        options: those of all blocks.
        encodes: whether the block belongs to the downward path.
        resize: a layer without weights that resizes the input first; None keeps its size.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        options: BlockOptions,
        *,
        encodes: bool,
        resize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        dims, circular = options.dims, options.circular
        self.encodes = encodes
        self.use_checkpoint = options.use_checkpoint
        self.checkpoint_engine = options.checkpoint_engine
        self.resize = resize
        first = out_channels if encodes else channels
        self.conv_in = MagnitudeConv(dims, first, out_channels, 3, circular)
        self.emb_layer = MagnitudeLinear(options.emb_channels, out_channels)
        self.emb_gain = nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(p=options.dropout)
        self.conv_out = MagnitudeConv(dims, out_channels, out_channels, 3, circular)
        self.skip: MagnitudeConv | None = None
        if out_channels != channels:
            self.skip = MagnitudeConv(dims, channels, out_channels, 1, circular)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Map [N, C, *spatial] and [N, E] to [N, C', *spatial']."""
        return run_block(self, x, emb)

    def _forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.resize is not None:
            x = self.resize(x)
        if self.encodes:
            x = to_unit(x if self.skip is None else self.skip(x), 1)
        h = self.conv_in(F.silu(x), 1 / SILU_MAGNITUDE)
        factor = 1 + self.emb_gain * self.emb_layer(magnitude_silu(emb))
        h = h * factor.reshape(*factor.shape, *[1] * (h.dim() - 2)).to(h.dtype)
        passing, branch = sum_weights(BRANCH_SHARE)
        h = self.conv_out(self.dropout(F.silu(h)), branch / SILU_MAGNITUDE)
        if self.encodes or self.skip is None:
            return torch.add(h, x, alpha=passing)
        y: Tensor = h + self.skip(x, passing)
        return y


class MagnitudeAttention(nn.Module):
    """Cosine self-attention over all positions of [N, C, *spatial], added to the input.

    Queries, keys and values are brought to magnitude 1, so that the logits are cosines times the
    root of a head's width (section 2.1).

    Args:
        channels: channels of input and output, which the heads divide.
        num_heads: number of heads.
        options: those of all blocks.
    """

    def __init__(self, channels: int, num_heads: int, options: BlockOptions) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.use_checkpoint = options.use_checkpoint
        self.checkpoint_engine = options.checkpoint_engine
        self.qkv = MagnitudeLinear(channels, 3 * channels)
        self.proj_out = MagnitudeLinear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *spatial] to the same shape."""
        return run_block(self, x)

    def _forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x.flatten(2).mT)
        heads = to_unit(qkv.unflatten(2, (3 * self.num_heads, -1)), 3)
        passing, branch = sum_weights(BRANCH_SHARE)
        h = self.proj_out(self_attention(heads.flatten(2), self.num_heads, "qkv_first"), branch)
        return torch.add(h.mT.reshape(x.shape), x, alpha=passing)


class MagnitudeConditions(ConditionEmbedding):
    """Embed the conditions of an item as a sum of vectors of magnitude 1, one for each known."""

    def _table(self, classes: int, width: int) -> nn.Module:
        return MagnitudeEmbedding(classes, width)

    def _layers(self, features: int, width: int) -> nn.Module:
        return MagnitudeFeatures(features, width)
