"""The network's settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from iddpm.config.condition_config import ConditionConfig
from iddpm.config.section import Few, Length, Section, Whole

Width = Annotated[Whole, Field(gt=0, le=65_536)]

Blocks = Annotated[Whole, Field(gt=0, le=64)]

OF_GROUP_NORM = (
    "qkv_order",
    "use_scale_shift_norm",
    "upsample",
    "smooth_start",
    "downsample",
    "resblock_updown",
    "group_channels",
)
"""Settings of the blocks of ``layers=group_norm`` only."""
FACTS = frozenset(
    {
        "network",
        "channels",
        "size",
        "class_conditional",
        "num_classes",
        "conditions",
        "given_channels",
    }
)
"""Settings that apply to any network; the other settings build the U-Net."""


class ModelConfig(Section):
    """Settings of the U-Net; what is None is derived from the data and then written down.

    ``channels``, ``size`` and ``num_classes`` are facts of the data: they may be stated, to build a
    network without data, and are held against the data when there is some.
    """

    network: str | None = None
    """Name of your own network, for information only: pass the network whenever you open the
    run."""
    channels: Length | None = None
    """Channels of the data."""
    size: tuple[Length, ...] | None = None
    """Spatial size of the data: (L,), (H, W) or (D, H, W). Its length is the dimension."""
    class_conditional: bool = False
    """Condition the network on the class of each item; the data must have labels."""
    num_classes: Length | None = None
    """Number of classes, for a class-conditional network."""
    conditions: dict[str, ConditionConfig] | None = None
    """Conditions other than the class, by name; by default all columns of data.conditions."""
    given_channels: Length | None = None
    """Channels of the paired data of each item (data.given)."""

    layers: Literal["group_norm", "magnitude_preserving"] = "group_norm"
    """Layers with group normalization, as published, or magnitude-preserving ones without (EDM2,
    Karras et al. 2024); the learning rate of the latter is relative to weights of magnitude 1, and
    0.01 in the paper."""
    model_channels: Width = 64
    """Base width; by default 64, 32 for volumes, and less if memory is short."""
    num_res_blocks: Blocks | Annotated[tuple[Blocks, ...], Field(min_length=1, max_length=16)] = 2
    """Residual blocks per level: a number, or one for each level, such as [1, 4, 2]."""
    channel_mult: (
        Annotated[tuple[Annotated[float, Field(gt=0, le=1024)], ...], Field(max_length=16)] | None
    ) = None
    """Width factor of each level; by default chosen from the size."""
    attention_downsampling: tuple[Length, ...] | None = None
    """Downsampling factors with attention; by default those that leave 7 to 16 positions per axis,
    and for volumes at most 1,024 in total."""
    num_heads: Few = 4
    """Heads of each attention block; 4 as published."""
    num_head_channels: Width | None = None
    """Width of an attention head; if set, it determines the number of heads."""
    num_heads_upsample: Few | None = None
    """Heads in the decoder; ``num_heads`` by default."""
    qkv_order: Literal["heads_first", "qkv_first"] = "heads_first"
    """Order of the channels of queries, keys and values: those of each head together, as in
    improved-diffusion, or all queries first."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the activations of a residual block that training sets to 0; by default 0.1 for few
    items that training passes often, otherwise 0."""
    use_scale_shift_norm: bool = True
    """FiLM: scale and shift the normalized activations by the embedding; otherwise add the
    embedding."""
    upsample: Literal["transpose", "nearest_conv", "nearest"] = "transpose"
    """A learned transposed convolution, nearest neighbors with a convolution as published, or
    nearest neighbors alone (benchmarks/upsampling.md)."""
    smooth_start: bool = True
    """Initialize transposed convolutions as linear interpolation."""
    downsample: Literal["conv", "avg_pool"] = "conv"
    """A convolution with stride 2, or the average of each block."""
    resblock_updown: bool = False
    """Resample inside residual blocks."""
    stride: tuple[Literal[1, 2], ...] | None = None
    """Resampling factor per axis; by default 2, and (1, 2, 2) for volumes unless they are about as
    deep as wide and ``channel_mult`` is chosen automatically."""
    wavelets: Annotated[Whole, Field(ge=0, le=4)] = 0
    """Levels of an orthonormal Haar transform around the network, along the axes that it resizes:
    each halves the grid that it works at. The likelihood stays that of the data."""
    patch: Literal[1, 2, 4] = 1
    """Patches of so many positions along each axis that the network resizes are its channels, at a
    grid that much coarser (space to depth): like wavelets, without sums and differences."""
    circular: tuple[bool, ...] | bool = False
    """Periodic data, such as rings, panoramas and fields: true, or true or false per axis."""
    group_channels: Width | None = None
    """Minimum number of channels per normalization group: by default 4 if ``channel_mult`` is
    chosen automatically, otherwise 1 as published, with 32 groups for any width. Groups of one
    channel lose the level of the data."""
    pool: Literal["adaptive", "attention", "spatial", "spatial_v2"] | None = None
    """How a classifier pools all positions; by default attention. The others are published ones."""
    use_checkpoint: bool = False
    """Recompute activations in the backward pass: less memory, more time; by default only if memory
    is short."""

    @property
    def conditioned(self) -> bool:
        """Whether the network has a class or conditions, so that it can be guided."""
        return self.class_conditional or bool(self.conditions)

    @model_validator(mode="after")
    def _blocks_have_the_settings(self) -> Self:
        if self.layers == "group_norm":
            return self
        fields = type(self).model_fields
        for name in OF_GROUP_NORM:
            value = getattr(self, name)
            if value != fields[name].default:
                raise ValueError(
                    f"model.layers={self.layers} has blocks without {name}={str(value).lower()}: "
                    "leave it out, or use model.layers=group_norm"
                )
        return self

    @model_validator(mode="after")
    def _one_basis(self) -> Self:
        if self.patch > 1 and self.wavelets:
            raise ValueError(
                f"model.patch={self.patch} and model.wavelets={self.wavelets} both make the grid "
                "coarser: use one of them"
            )
        return self

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if self.num_classes is not None and not self.class_conditional:
            raise ValueError(f"num_classes={self.num_classes} needs class_conditional=true")
        return self
