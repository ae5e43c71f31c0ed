"""The network's settings."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from iddpm.config.condition_config import ConditionConfig
from iddpm.config.section import Few, Length, Section, Whole

Width = Annotated[Whole, Field(gt=0, le=65_536)]

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
"""What holds of any network; the other settings build the U-Net."""


class ModelConfig(Section):
    """Settings of the U-Net; what is None is derived from the data and then written down.

    ``channels``, ``size`` and ``num_classes`` are facts of the data: they may be stated, to build a
    network without data, and are held against the data when there is some.
    """

    network: str | None = None
    """The name of an own network, for people: it has to be passed whenever a run is opened."""
    channels: Length | None = None
    """Channels of the data."""
    size: tuple[Length, ...] | None = None
    """Spatial size of the data: (L,), (H, W) or (D, H, W). Its length is the dimension."""
    class_conditional: bool = False
    """Give the network the class of each item; the data must have labels."""
    num_classes: Length | None = None
    """Number of classes, for a class-conditional network."""
    conditions: dict[str, ConditionConfig] | None = None
    """Conditions other than the class, by name; by default all columns of data.conditions."""
    given_channels: Length | None = None
    """Channels of the data that is given with each item (data.given)."""

    model_channels: Width = 64
    """Base width; by default 64, of volumes 32, and less where memory is short."""
    num_res_blocks: Annotated[Whole, Field(gt=0, le=64)] = 2
    """Residual blocks per level."""
    channel_mult: (
        Annotated[tuple[Annotated[float, Field(gt=0, le=1024)], ...], Field(max_length=16)] | None
    ) = None
    """Width factor of each level; by default chosen by the size."""
    attention_downsampling: tuple[Length, ...] | None = None
    """Downsampling factors with attention; by default where 7 to 16 positions are left per axis,
    and of volumes at most 1,024 in all."""
    num_heads: Few = 4
    num_head_channels: Width | None = None
    """Width of a head; when given, the number of heads follows from it."""
    num_heads_upsample: Few | None = None
    """Heads in the decoder; ``num_heads`` by default."""
    qkv_order: Literal["heads_first", "qkv_first"] = "heads_first"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    use_scale_shift_norm: bool = True
    """FiLM; otherwise the embedding is added."""
    upsample: Literal["transpose", "nearest_conv", "nearest"] = "transpose"
    smooth_start: bool = True
    """Start transposed convolutions as linear interpolation."""
    downsample: Literal["conv", "avg_pool"] = "conv"
    resblock_updown: bool = False
    """Resize inside residual blocks."""
    stride: tuple[Literal[1, 2], ...] | None = None
    """Resizing factor per axis; 2 everywhere, and for volumes (1, 2, 2) unless they are about as
    deep as wide and ``channel_mult`` is left to be chosen."""
    wavelets: Annotated[Whole, Field(ge=0, le=4)] = 0
    """Levels of an orthonormal Haar transform around the network, along the axes that it resizes:
    each halves the grid that it works at. The likelihood stays that of the data."""
    circular: tuple[bool, ...] | bool = False
    """Periodic data, such as rings, panoramas and fields: true, or true or false per axis."""
    group_channels: Width | None = None
    """The fewest channels of a normalization group: by default 4 where ``channel_mult`` is left to
    be chosen, else 1 as published, where 32 groups are made of any width. Groups of one channel
    lose the level of the data."""
    pool: Literal["adaptive", "attention", "spatial", "spatial_v2"] | None = None
    """How a classifier joins all positions; by default attention. The others are published ones."""
    use_checkpoint: bool = False
    """Recompute activations in the backward pass: less memory, more time; by default where memory
    is short."""

    @property
    def told(self) -> bool:
        """Whether the network has a class or conditions, so that it can be guided."""
        return self.class_conditional or bool(self.conditions)

    @model_validator(mode="after")
    def _classes_fit(self) -> Self:
        if self.num_classes is not None and not self.class_conditional:
            raise ValueError(f"num_classes={self.num_classes} needs class_conditional=true")
        return self
