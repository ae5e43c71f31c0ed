"""Multi-head self-attention over tokens, in the two orders of the published checkpoints."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from iddpm.networks.kernels import runs_plainly

QKVOrder = Literal["heads_first", "qkv_first"]
FEW = 512
"""Most positions of attention by products, whose weights are kept for the backward pass."""
SHORT = 128
"""Positions below which attention is computed in float32 on CPUs, for its backward pass."""


def count_heads(channels: int, num_heads: int, num_head_channels: int | None) -> int:
    """Return the number of heads, or raise ValueError where they do not divide the channels."""
    if num_head_channels is not None:
        if num_head_channels < 1 or channels % num_head_channels:
            raise ValueError(
                f"num_head_channels={num_head_channels} does not divide the {channels} channels "
                "of an attention block"
            )
        return channels // num_head_channels
    if num_heads < 1 or channels % num_heads:
        raise ValueError(
            f"num_heads={num_heads} does not divide the {channels} channels of an attention block"
        )
    return num_heads


def self_attention(
    qkv: Tensor, num_heads: int, order: QKVOrder, by_products: bool = False
) -> Tensor:
    """Attend within [N, L, 3 C] and return [N, L, C] (Vaswani et al. 2017, equation 1).

    Channels come last because the fused kernels require it: with positions last, PyTorch falls
    back to forming the L x L weights, and the block takes half as long again or more.

    ``by_products`` forms those weights for bfloat16 on CPUs if L is at most ``FEW``: their
    products are so much faster there than the backward pass of the fused kernel that forward and
    backward take about half the time (``python benchmarks/bfloat16.py``).
    """
    n, length, width = qkv.shape
    on_cpu = qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16
    if by_products and on_cpu and length <= FEW and not runs_plainly():
        return _by_products(qkv, num_heads, order)
    if order == "heads_first":
        q, k, v = qkv.reshape(n, length, num_heads, 3, -1).unbind(3)
    else:
        q, k, v = qkv.reshape(n, length, 3, num_heads, -1).unbind(2)
    # [N, heads, L, C / heads], what scaled_dot_product_attention takes.
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if on_cpu and length < SHORT:
        # The bfloat16 kernel's backward pass is up to seven times as slow as float32's on short
        # sequences (``python benchmarks/bfloat16.py``).
        with torch.autocast("cpu", enabled=False):
            h = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(qkv.dtype)
    else:
        h = F.scaled_dot_product_attention(q, k, v)
    return h.transpose(1, 2).reshape(n, length, width // 3)


def _by_products(qkv: Tensor, num_heads: int, order: QKVOrder) -> Tensor:
    """Attend by two batched products and a softmax."""
    n, length, width = qkv.shape
    shape, axes = (n, length, num_heads, 3, -1), (3, 0, 2, 1, 4)
    if order == "qkv_first":
        shape, axes = (n, length, 3, num_heads, -1), (2, 0, 3, 1, 4)
    # One copy to [3, N, heads, L, C / heads], which the products take without another.
    q, k, v = qkv.reshape(shape).permute(axes).contiguous().flatten(1, 2).unbind(0)
    start = torch.zeros((), dtype=q.dtype)
    scores = torch.baddbmm(start, q, k.mT, beta=0, alpha=q.shape[-1] ** -0.5)
    h = torch.bmm(scores.softmax(-1), v)
    heads: Tensor = h.reshape(n, num_heads, length, -1)
    return heads.transpose(1, 2).reshape(n, length, width // 3)
