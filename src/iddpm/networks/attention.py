"""Multi-head self-attention over tokens, in the two orders of the published checkpoints."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

QKVOrder = Literal["heads_first", "qkv_first"]
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


def self_attention(qkv: Tensor, num_heads: int, order: QKVOrder) -> Tensor:
    """Attend within [N, L, 3 C] and return [N, L, C] (Vaswani et al. 2017, equation 1).

    Channels come last because the fused kernels require it: with positions last, PyTorch falls
    back to forming the L x L weights, and the block takes half as long again or more.
    """
    n, length, width = qkv.shape
    if order == "heads_first":
        q, k, v = qkv.reshape(n, length, num_heads, 3, -1).unbind(3)
    else:
        q, k, v = qkv.reshape(n, length, 3, num_heads, -1).unbind(2)
    # [N, heads, L, C / heads], what scaled_dot_product_attention takes.
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and length < SHORT:
        # The bfloat16 kernel's backward pass is up to seven times as slow as float32's on short
        # sequences (``python benchmarks/bfloat16.py``).
        with torch.autocast("cpu", enabled=False):
            h = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(qkv.dtype)
    else:
        h = F.scaled_dot_product_attention(q, k, v)
    return h.transpose(1, 2).reshape(n, length, width // 3)
