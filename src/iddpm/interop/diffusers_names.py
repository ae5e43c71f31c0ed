"""Names of the weights of diffusers' UNet2DModel, and how its attention keeps them.

Facts about that class: github.com/huggingface/diffusers, models/unets/unet_2d.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

_RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_AROUND = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_QKV = ("to_q", "to_k", "to_v")
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""Names that versions before 0.15 of diffusers wrote."""


class Layout(NamedTuple):
    """What the names depend on.

    Attributes:
        levels: resolutions.
        num_res_blocks: residual blocks per level.
        attention: the levels with attention, 0 is the full resolution.
        resblock_updown: whether residual blocks resize.
        widths: channels of each level.
        num_heads: heads of attention at each width.
        qkv_first: whether all queries lie together (``model.qkv_order=qkv_first``).
    """

    levels: int
    num_res_blocks: int
    attention: frozenset[int]
    resblock_updown: bool
    widths: Sequence[int]
    num_heads: Mapping[int, int]
    qkv_first: bool


def to_diffusers(weights: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return our weights by the names, and in the layout, of UNet2DModel."""
    named: dict[str, Tensor] = {}
    for ours, theirs in _modules(layout):
        for kind in ("weight", "bias"):
            value = weights.get(f"{ours}.{kind}")
            if value is None:
                continue
            if ours.endswith(".qkv"):
                heads = layout.num_heads[len(value) // 3]
                for name, part in zip(_QKV, _split(value, heads, layout.qkv_first), strict=True):
                    named[f"{theirs}.{name}.{kind}"] = part
            elif ours.endswith(".proj_out"):
                named[f"{theirs}.{kind}"] = value.reshape(value.shape[:2])
            else:
                named[f"{theirs}.{kind}"] = value
    return {name: value.contiguous() for name, value in named.items()}


def from_diffusers(weights: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Return the weights of a UNet2DModel by our names; what is not among them is left out."""
    theirs_all = {_renewed(name): value for name, value in weights.items()}
    named: dict[str, Tensor] = {}
    for ours, theirs in _modules(layout):
        for kind in ("weight", "bias"):
            if ours.endswith(".qkv"):
                parts = [theirs_all.get(f"{theirs}.{name}.{kind}") for name in _QKV]
                known = [part for part in parts if part is not None]
                if len(known) == 3:
                    heads = layout.num_heads[len(known[0])]
                    joined = _join(known, heads, layout.qkv_first)
                    named[f"{ours}.{kind}"] = joined[..., None] if kind == "weight" else joined
                continue
            value = theirs_all.get(f"{theirs}.{kind}")
            if value is not None:
                if ours.endswith(".proj_out") and kind == "weight":
                    value = value[..., None]
                named[f"{ours}.{kind}"] = value
    return named


def _renewed(name: str) -> str:
    """Return today's name of a weight in an older file."""
    for old, new in _OLD_ATTENTION.items():
        name = name.replace(f".{old}.", f".{new}.")
    return name


def _split(value: Tensor, heads: int, qkv_first: bool) -> Sequence[Tensor]:
    """Cut the rows of a qkv layer [3 C, ...] into those of q, k and v, heads in order."""
    if value.dim() == 3:
        value = value.squeeze(-1)
    if qkv_first:
        return value.chunk(3)
    parts = value.reshape(heads, 3, -1, *value.shape[1:])
    return [parts[:, k].flatten(0, 1) for k in range(3)]


def _join(parts: Sequence[Tensor], heads: int, qkv_first: bool) -> Tensor:
    """Return the rows of a qkv layer from those of q, k and v."""
    if qkv_first:
        return torch.cat(list(parts))
    split = [part.reshape(heads, -1, *part.shape[1:]) for part in parts]
    return torch.stack(split, dim=1).flatten(0, 2)


def _modules(layout: Layout) -> Iterator[tuple[str, str]]:
    """Yield our name and theirs of each layer with weights."""
    yield from _AROUND.items()
    yield from _downward(layout)
    for ours, theirs in (("middle_block.0", "resnets.0"), ("middle_block.2", "resnets.1")):
        yield from _res_block(ours, f"mid_block.{theirs}")
    yield from _attention("middle_block.1", "mid_block.attentions.0")
    yield from _upward(layout)


def _downward(layout: Layout) -> Iterator[tuple[str, str]]:
    index = 1  # block 0 is the first convolution
    for level in range(layout.levels):
        there = f"down_blocks.{level}"
        for block in range(layout.num_res_blocks):
            yield from _res_block(f"input_blocks.{index}.0", f"{there}.resnets.{block}")
            if level in layout.attention:
                yield from _attention(f"input_blocks.{index}.1", f"{there}.attentions.{block}")
            index += 1
        if level < layout.levels - 1:
            if layout.resblock_updown:
                yield from _res_block(f"input_blocks.{index}.0", f"{there}.downsamplers.0")
            else:
                yield f"input_blocks.{index}.0.op", f"{there}.downsamplers.0.conv"
            index += 1


def _upward(layout: Layout) -> Iterator[tuple[str, str]]:
    index = 0
    for place, level in enumerate(reversed(range(layout.levels))):
        there = f"up_blocks.{place}"
        for block in range(layout.num_res_blocks + 1):
            yield from _res_block(f"output_blocks.{index}.0", f"{there}.resnets.{block}")
            after = 1
            if level in layout.attention:
                yield from _attention(f"output_blocks.{index}.1", f"{there}.attentions.{block}")
                after = 2
            if level and block == layout.num_res_blocks:
                ours = f"output_blocks.{index}.{after}"
                if layout.resblock_updown:
                    yield from _res_block(ours, f"{there}.upsamplers.0")
                else:
                    yield f"{ours}.conv", f"{there}.upsamplers.0.conv"
            index += 1


def _res_block(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    for name, other in _RES_BLOCK.items():
        yield f"{ours}.{name}", f"{theirs}.{other}"


def _attention(ours: str, theirs: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.norm", f"{theirs}.group_norm"
    yield f"{ours}.qkv", theirs
    yield f"{ours}.proj_out", f"{theirs}.to_out.0"


def check_weights(
    source: object,
    named: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> None:
    """Raise ValueError where a UNet2DModel's weights are not those of a network of ours.

    Args:
        source: where they come from.
        named: the weights by our names.
        weights: as they lay in the file.
        own: the state of the network that its configuration describes.
    """
    for name, value in own.items():
        if name not in named or named[name].shape != value.shape:
            found = "missing" if name not in named else f"of shape {list(named[name].shape)}"
            raise ValueError(
                f"{source} does not hold the weights that its config.json describes: our {name} "
                f"of shape {list(value.shape)} is {found}"
            )
    used = sum(value.numel() for value in named.values())
    held = sum(value.numel() for value in weights.values())
    if used != held:
        raise ValueError(f"{source} holds {held - used} numbers that config.json does not describe")
