"""The U-Net of Improved DDPM for signals, images and volumes."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Required, Unpack

import torch
from torch import Tensor, nn

from iddpm.networks.blocks import TimestepEmbedSequential, Upsample, UpsampleKind
from iddpm.networks.condition_embedding import (
    AugmentationEmbedding,
    ConditionEmbedding,
    ConditionKind,
    NumberEmbedding,
)
from iddpm.networks.convolution import conv_nd
from iddpm.networks.layers import normalization, zero_module
from iddpm.networks.norm_activation import NormActivationSequential
from iddpm.networks.trunk import Trunk, TrunkOptions, with_keywords_of

NO_CLASS = -1
"""The label that means "no class": its embedding is zero (classifier-free guidance)."""


class UNetOptions(TrunkOptions, total=False):
    """The keywords of :class:`UNet` without ``in_channels``, for networks that extend it."""

    out_channels: Required[int]
    num_heads_upsample: int | None
    num_classes: int | None
    conditions: Sequence[ConditionKind]
    given_channels: int
    upsample: UpsampleKind
    smooth_start: bool
    numbers: Sequence[str]
    augmentation: int


class Features(NamedTuple):
    """The outputs of every stage of a U-Net, each [N, C, *spatial] of its own size."""

    down: list[Tensor]
    middle: Tensor
    up: list[Tensor]


class UNet(Trunk):
    """Map noisy data and its timestep to the network's prediction, at the same resolution.

    Any spatial size works: the decoder crops to the sizes of the encoder. Any number of channels
    works: the number of normalization groups is a divisor of it.

    Args:
        dims: 1 (signals), 2 (images) or 3 (volumes, clips) spatial axes.
        in_channels: channels of the data.
        out_channels: channels of the prediction; twice the data's when the variance is learned.
        model_channels: the base width, multiplied at each level by ``channel_mult``.
        num_res_blocks: residual blocks per level, one number for all or one for each.
        channel_mult: one width factor per level; between levels the resolution halves.
        attention_downsampling: downsampling factors (1, 2, 4, ...) at which attention is used.
            The published class calls these factors ``attention_resolutions``; the published flags
            of that name hold pixels.
        num_heads, num_head_channels: attention heads, by number or by width.
        num_heads_upsample: number of heads in the decoder, ``num_heads`` by default.
        qkv_order: see :class:`~iddpm.networks.blocks.AttentionBlock`.
        dropout: probability of dropping a unit in a residual block.
        num_classes: number of classes, or None for an unconditional network.
        conditions: the kinds of further conditions of each item, see
            :class:`~iddpm.networks.condition_embedding.ConditionEmbedding`.
        given_channels: channels of paired data, such as a conditioning image; it is concatenated
            to the input behind ``in_channels``.
        use_scale_shift_norm: FiLM instead of adding the embedding.
        upsample, downsample, smooth_start: see :class:`~iddpm.networks.blocks.Upsample` and
            :class:`~iddpm.networks.blocks.Downsample`.
        resblock_updown: resize inside residual blocks, as guided-diffusion does; ``upsample`` and
            ``downsample`` are then not used.
        stride: resizing factor per axis; (1, 2, 2) for volumes and 2 everywhere otherwise.
        circular: whether the data is periodic: true, or a boolean per axis. Shifting the input by
            a multiple of the total stride then shifts the output; sizes must be multiples of it.
        group_channels: the fewest channels of a normalization group; 1 as published. Groups of one
            channel, in levels of at most 32 channels, hide the level of the data.
        use_checkpoint, checkpoint_engine: see :class:`~iddpm.networks.blocks.ResBlock`.
        numbers: what a distilled network is conditioned on beside the timestep: ``guidance``,
            ``end``, or both, see :meth:`forward`. Their embeddings start at zero.
        augmentation: length of the vector that says how an item was augmented; its embedding is
            linear, starts at zero, and is zero for the vector of zeros.

    Raises:
        ValueError: numbers that do not fit together, named in the message.

    >>> network = UNet(
    ...     dims=2, in_channels=1, out_channels=2, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1, 2), num_classes=10,
    ... )
    >>> network(torch.randn(4, 1, 8, 8), torch.zeros(4), y=torch.tensor([0, 1, 9, NO_CLASS])).shape
    torch.Size([4, 2, 8, 8])
    """

    @with_keywords_of(Trunk)
    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int,
        num_heads_upsample: int | None = None,
        num_classes: int | None = None,
        conditions: Sequence[ConditionKind] = (),
        given_channels: int = 0,
        upsample: UpsampleKind = "transpose",
        smooth_start: bool = True,
        numbers: Sequence[str] = (),
        augmentation: int = 0,
        **trunk: Unpack[TrunkOptions],
    ) -> None:
        super().__init__(in_channels=in_channels + given_channels, **trunk)
        self.out_channels = out_channels
        self.num_classes = num_classes
        if num_classes is not None:
            self.label_emb = self._label_emb(num_classes)
        self.condition_emb: ConditionEmbedding | None = None
        if conditions:
            self.condition_emb = self._condition_emb(conditions)
        self.given_channels = given_channels
        make_upsample = partial(
            Upsample,
            dims=self.dims,
            kind=upsample,
            stride=self.stride,
            smooth_start=smooth_start,
            circular=self.circular,
        )
        ch = self._build_path_up(make_upsample, num_heads_upsample)
        self.out = self._head(ch)
        self.number_emb: NumberEmbedding | None = None
        if numbers:
            self.number_emb = NumberEmbedding(numbers, self.model_channels, self.emb_channels)
        self.augment_emb: AugmentationEmbedding | None = None
        if augmentation:
            self.augment_emb = AugmentationEmbedding(augmentation, self.emb_channels)

    def _build_path_up(
        self, make_upsample: Callable[[int], nn.Module], num_heads_upsample: int | None
    ) -> int:
        """Build ``output_blocks`` and return the channels of the last."""
        skips = list(self.stage_channels)
        ch = skips[-1]
        self.output_blocks = nn.ModuleList()
        for level, width in reversed(list(enumerate(self.widths))):
            last = self.blocks_of_level[level]
            for i in range(last + 1):
                layers: list[nn.Module] = [self._up_block(ch + skips.pop(), width)]
                ch = width
                if 2**level in self.attention_at:
                    try:
                        layers.append(self._attention(ch, num_heads_upsample or self.num_heads))
                    except ValueError as error:
                        if num_heads_upsample is None:
                            raise
                        raise ValueError(
                            f"num_heads_upsample={num_heads_upsample} does not work: {error}"
                        ) from None
                if level and i == last:
                    resizes = self.resblock_updown
                    up = self._up_block(ch, ch, up=True) if resizes else make_upsample(ch)
                    layers.append(up)
                self.output_blocks.append(TimestepEmbedSequential(*layers))
        return ch

    def _label_emb(self, num_classes: int) -> nn.Module:
        return nn.Embedding(num_classes, self.emb_channels)

    def _condition_emb(self, conditions: Sequence[ConditionKind]) -> ConditionEmbedding:
        return ConditionEmbedding(conditions, self.emb_channels)

    def _head(self, width: int) -> nn.Module:
        """Return the layers from the last block's ``width`` channels to the prediction."""
        last = conv_nd(self.dims, width, self.out_channels, 3, padding=1, circular=self.circular)
        normalized = normalization(width, self.group_channels)
        return NormActivationSequential(normalized, nn.SiLU(), zero_module(last))

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
        guidance: Tensor | None = None,
        end: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Tensor:
        """Predict from noisy data.

        Args:
            x: [N, in_channels, *spatial].
            timesteps: [N], the time shown to the network (fractions are honored).
            y: [N] class labels, for class-conditional networks only; -1 means no class.
            conditions: [N, K] further conditions, for networks with conditions; NaN where a value
                is unknown.
            given: [N, given_channels, *spatial] paired data, for networks with ``given_channels``.
            guidance: [N] the scale of the guidance that a network with this number imitates.
            end: [N] where the path ends whose mean velocity a network with this number predicts.
            augment: [N, P] how each item was augmented, for networks with ``augmentation``; by
                default zeros, which stand for items as they are.

        Returns:
            [N, out_channels, *spatial].

        Raises:
            ValueError: a shape does not fit, or an argument is missing or unexpected.
        """
        h = self.joined(x, given)
        numbers = {"guidance": guidance, "end": end, "augment": augment}
        return self.predict(h, self.embed(h, timesteps, y, conditions, numbers))

    def features(
        self,
        x: Tensor,
        timesteps: Tensor,
        y: Tensor | None = None,
        conditions: Tensor | None = None,
        given: Tensor | None = None,
        guidance: Tensor | None = None,
        end: Tensor | None = None,
        augment: Tensor | None = None,
    ) -> Features:
        """Return the output of every encoder block, the middle block and every decoder block."""
        h = self.joined(x, given)
        numbers = {"guidance": guidance, "end": end, "augment": augment}
        return self.stages(h, self.embed(h, timesteps, y, conditions, numbers))

    def predict(self, h: Tensor, emb: Tensor) -> Tensor:
        """Return the prediction for joined inputs and their embedding [N, 4 model_channels]."""
        skips = []
        for block in self.input_blocks:
            h = block(h, emb)
            skips.append(h)
        h = self.middle_block(h, emb)
        for block in self.output_blocks:
            h = block(self.join_skip(h, skips.pop()), emb)
        y_out: Tensor = self.out(h)
        return y_out

    def stages(self, h: Tensor, emb: Tensor) -> Features:
        """Return the output of every stage that :meth:`predict` goes through."""
        down, up = [], []
        for block in self.input_blocks:
            h = block(h, emb)
            down.append(h)
        h = middle = self.middle_block(h, emb)
        for block, skip in zip(self.output_blocks, reversed(down), strict=True):
            h = block(self.join_skip(h, skip), emb)
            up.append(h)
        return Features(down, middle, up)

    def joined(self, x: Tensor, given: Tensor | None) -> Tensor:
        """Return the input with the paired data as further channels."""
        if (given is not None) != (self.given_channels > 0):
            raise ValueError(
                f"the network takes {self.given_channels} channels of paired data (given) and "
                f"was called {('without any' if given is None else 'with some')}"
            )
        if given is None:
            return x
        wanted = (x.shape[0], self.given_channels, *x.shape[2:])
        if given.shape != wanted:
            raise ValueError(
                f"the network takes paired data of shape {list(wanted)} with an input of shape "
                f"{list(x.shape)}, not {list(given.shape)}"
            )
        return torch.cat([x, given.to(x.dtype)], dim=1)

    def embed(
        self,
        x: Tensor,
        timesteps: Tensor,
        y: Tensor | None,
        conditions: Tensor | None = None,
        numbers: Mapping[str, Tensor | None] | None = None,
    ) -> Tensor:
        """Return the embedding [N, 4 model_channels] of time and conditioning, all checked."""
        emb = self.embed_time(x, timesteps)
        self.check_conditioning(y, conditions)
        return self.with_numbers(self.with_conditioning(emb, y, conditions), numbers)

    def with_conditioning(self, emb: Tensor, y: Tensor | None, conditions: Tensor | None) -> Tensor:
        """Add the embeddings of the class and of the conditions, where they are known."""
        if y is not None:
            known = (y != NO_CLASS).to(emb.dtype)[:, None]
            emb = emb + self.label_emb(y.clamp(min=0)) * known
        if conditions is not None and self.condition_emb is not None:
            emb = emb + self.condition_emb(conditions)
        return emb

    def with_numbers(self, emb: Tensor, numbers: Mapping[str, Tensor | None] | None) -> Tensor:
        """Add the embeddings of the network's numbers, or raise ValueError for other ones."""
        known_numbers = {n: v for n, v in (numbers or {}).items() if v is not None}
        if self.augment_emb is not None:
            emb = self.augment_emb(emb, known_numbers.pop("augment", None))
        wanted = () if self.number_emb is None else self.number_emb.names
        if set(wanted) != set(known_numbers):
            raise ValueError(
                f"the network takes {', '.join(wanted) or 'no further numbers'} and was called "
                f"with {', '.join(known_numbers) or 'no numbers'}"
            )
        return emb if self.number_emb is None else emb + self.number_emb(known_numbers)

    def join_skip(self, h: Tensor, skip: Tensor) -> Tensor:
        """Join the channels of the upward path and of the downward path, at the latter's size."""
        return join_skip(h, skip)

    def check_conditioning(self, y: Tensor | None, conditions: Tensor | None) -> None:
        """Raise ValueError for class labels or conditions that are missing or unexpected."""
        if (y is not None) != (self.num_classes is not None):
            wants = f"{self.num_classes} classes" if self.num_classes else "no classes"
            raise ValueError(
                f"the network has {wants} and was called "
                f"{'without' if y is None else 'with'} class labels y"
            )
        if (conditions is not None) != (self.condition_emb is not None):
            raise ValueError(
                f"the network takes {len(self.condition_emb.kinds) if self.condition_emb else 'no'}"
                f" conditions and was called {'without' if conditions is None else 'with'} some"
            )


def join_skip(h: Tensor, skip: Tensor) -> Tensor:
    """Crop ``h`` to the skip's spatial size and join the channels."""
    h = crop(h, skip.shape[2:])
    if h.dim() == 3:  # joined as pictures, whose layout PyTorch keeps
        return torch.cat([h.unsqueeze(2), skip.unsqueeze(2)], dim=1).squeeze(2)
    return torch.cat([h, skip], dim=1)


def crop(h: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return [N, C, *spatial] without what rounding odd sizes up added to them."""
    if h.shape[2:] != tuple(sizes):
        for axis, size in enumerate(sizes, start=2):
            h = h.narrow(axis, 0, size)
    return h
