"""The encoder half of the U-Net: a classifier of noisy data."""

from collections.abc import Sequence
from typing import Literal, Unpack

import torch
from torch import Tensor, nn

from iddpm.networks.attention import count_heads, self_attention
from iddpm.networks.convolution import conv_nd
from iddpm.networks.layers import TokenLinear, linear, normalization, zero_module
from iddpm.networks.trunk import Trunk, TrunkOptions, with_keywords_of

Pool = Literal["adaptive", "attention", "spatial", "spatial_v2"]
SPATIAL_WIDTH = 2048
"""Hidden width of the ``spatial`` pools (guided-diffusion)."""


class AttentionPool(nn.Module):
    """Attend from the mean of all positions to every position, and project (Radford et al. 2021).

    The positions have learned embeddings, so only one spatial size works.
    """

    def __init__(self, size: Sequence[int], channels: int, num_heads: int, out: int) -> None:
        super().__init__()
        self.size = tuple(size)
        positions = torch.Size(self.size).numel() + 1
        self.positional_embedding = nn.Parameter(torch.randn(channels, positions) / channels**0.5)
        self.qkv_proj = TokenLinear(channels, 3 * channels)
        self.c_proj = TokenLinear(channels, out)
        self.num_heads = num_heads

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, *size] to [N, out]."""
        return self.c_proj(self.attend(x))  # type: ignore[no-any-return]

    def attend(self, x: Tensor) -> Tensor:
        """Map [N, C, *size] to [N, C], the input of the projection."""
        assert tuple(x.shape[2:]) == self.size, "EncoderUNet checks the size of its input"
        x = x.flatten(2)
        x = torch.cat([x.mean(dim=-1, keepdim=True), x], dim=-1)
        x = x + self.positional_embedding.to(x.dtype)
        return self_attention(self.qkv_proj(x.mT), self.num_heads, "qkv_first")[:, 0]


class MeanPool(nn.Module):
    """Average over all positions: [N, C, *spatial] to [N, C, *ones]."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean, its axes kept."""
        return x.mean(dim=tuple(range(2, x.dim())), keepdim=True)


class EncoderUNet(Trunk):
    """Map noisy data and its timestep to a vector, such as class logits.

    The downward half of :class:`~iddpm.networks.unet.UNet` and its middle block, then a pool:
    ``"adaptive"`` (mean, then a zeroed projection), ``"attention"`` (made for ``image_size``),
    ``"spatial"`` and ``"spatial_v2"`` (means of every stage, then two linear layers).

    Args:
        in_channels: channels of the data.
        out_channels: length of the vector, such as the number of classes.
        image_size: spatial size of the input, one number for all axes or one per axis; required by
            the attention pool, which takes no other size.
        pool: the pool's name.
        model_channels, num_res_blocks, channel_mult, attention_downsampling: widths and blocks of
            the levels, as in the U-Net.
        dims, stride, circular: the spatial axes, as in the U-Net.
        num_heads, num_head_channels, qkv_order: attention, as in the U-Net.
        dropout, use_scale_shift_norm, downsample, resblock_updown, group_channels: the residual
            blocks and the resizing, as in the U-Net.
        use_checkpoint, checkpoint_engine: gradient checkpointing, as in the U-Net.

    Raises:
        ValueError: numbers that do not fit together, named in the message.

    >>> classifier = EncoderUNet(
    ...     dims=2, in_channels=1, out_channels=10, model_channels=8, num_res_blocks=1
    ... )
    >>> classifier(torch.randn(2, 1, 16, 16), torch.tensor([0.0, 999.0])).shape
    torch.Size([2, 10])
    """

    @with_keywords_of(Trunk)
    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        image_size: int | Sequence[int] | None = None,
        pool: Pool = "adaptive",
        **trunk: Unpack[TrunkOptions],
    ) -> None:
        super().__init__(in_channels=in_channels, **trunk)
        self.out_channels = out_channels
        self.pool = pool
        self.image_size: tuple[int, ...] | None = None
        if image_size is not None:
            sizes = (image_size,) * self.dims if isinstance(image_size, int) else tuple(image_size)
            self.image_size = sizes
        self.out = self._build_pool(pool, out_channels)

    def _build_pool(self, pool: Pool, out_channels: int) -> nn.Sequential:
        ch = self.widths[-1]
        stages = sum(self.stage_channels) + ch
        if pool == "adaptive":
            return nn.Sequential(
                normalization(ch, self.group_channels),
                nn.SiLU(),
                MeanPool(),
                zero_module(conv_nd(self.dims, ch, out_channels, 1)),
                nn.Flatten(),
            )
        if pool == "attention":
            heads = count_heads(ch, self.num_heads, self.num_head_channels)
            size = self._smallest_size()
            return nn.Sequential(
                normalization(ch, self.group_channels),
                nn.SiLU(),
                AttentionPool(size, ch, heads, out_channels),
            )
        if pool == "spatial":
            return nn.Sequential(
                linear(stages, SPATIAL_WIDTH), nn.ReLU(), linear(SPATIAL_WIDTH, out_channels)
            )
        if pool == "spatial_v2":
            return nn.Sequential(
                linear(stages, SPATIAL_WIDTH),
                normalization(SPATIAL_WIDTH),
                nn.SiLU(),
                linear(SPATIAL_WIDTH, out_channels),
            )
        raise ValueError(
            f"pool={pool!r} is unknown: use 'adaptive', 'attention', 'spatial' or 'spatial_v2'"
        )

    def forward(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Map [N, C, *spatial] and [N] to [N, out_channels]."""
        y: Tensor = self.out(self._encode(x, timesteps))
        return y

    def features(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Map [N, C, *spatial] and [N] to the input of the last projection, [N, d]."""
        h = self._encode(x, timesteps)
        if self.pool == "attention":
            pool = self.out[-1]
            assert isinstance(pool, AttentionPool)
            return pool.attend(self.out[:-1](h))
        after = 2 if self.pool == "adaptive" else 1
        y: Tensor = self.out[:-after](h)
        return y.flatten(1)

    def _encode(self, x: Tensor, timesteps: Tensor) -> Tensor:
        """Return the input of the pool: the middle block's output, or the means of all stages."""
        emb = self.embed_time(x, timesteps)
        if self.pool == "attention" and tuple(x.shape[2:]) != self.image_size:
            raise ValueError(
                f"the attention pool was made for size {self.image_size}, not "
                f"{tuple(x.shape[2:])}: build the network with that image_size or another pool"
            )
        axes = tuple(range(2, x.dim()))
        h = x
        means = []
        for block in [*self.input_blocks, self.middle_block]:
            h = block(h, emb)
            if self.pool.startswith("spatial"):
                means.append(h.mean(dim=axes))
        return torch.cat(means, dim=1) if means else h

    def _smallest_size(self) -> tuple[int, ...]:
        if self.image_size is None or len(self.image_size) != self.dims:
            raise ValueError(
                f"pool='attention' needs image_size, one number or {self.dims}, not "
                f"{self.image_size}"
            )
        size = self.image_size
        for _ in range(len(self.widths) - 1):
            size = tuple(-(-n // s) for n, s in zip(size, self.stride, strict=True))
        return size
