"""Time what bfloat16 on CPUs is slow at, and the way around it that the networks take.

python benchmarks/bfloat16.py

PyTorch's group normalization with the channels last, and the backward pass of its attention over
few positions. Every case is timed beside its alternative, round by round; the ratios are medians.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import interleave, processor, ratio
from torch import Tensor, nn

from iddpm.networks.layers import GroupNorm

ROUNDS = 7


def main() -> None:
    """Print both tables."""
    print(processor())
    print("\ngroup normalization, channels last: torch.nn's over ours (forward and backward)")
    for n, channels, size in ((64, 32, 28), (64, 64, 14), (16, 128, 32), (8, 256, 16)):
        x = torch.randn(n, channels, size, size, dtype=torch.bfloat16)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        plain, ours = nn.GroupNorm(32, channels), GroupNorm(32, channels)
        seconds = interleave({"plain": _both(plain, x), "ours": _both(ours, x)}, ROUNDS)
        print(f"  {list(x.shape)!s:<20} {ratio(seconds, 'plain', 'ours'):6.2f}")
    print(
        "\nattention: the bfloat16 kernel over the float32 one with both casts (forward, backward)"
    )
    for n, heads, length, width in (
        (64, 4, 49, 16),
        (32, 4, 100, 32),
        (16, 4, 196, 64),
        (8, 4, 256, 64),
    ):
        qkv = torch.randn(3, n, heads, length, width, dtype=torch.bfloat16, requires_grad=True)
        seconds = interleave(
            {"half": _both(_attend, qkv), "float32": _both(_attend_float32, qkv)}, ROUNDS
        )
        print(f"  {length:>4} positions x {width:<3} {ratio(seconds, 'half', 'float32'):6.2f}")


def _attend(qkv: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*qkv.unbind())


def _attend_float32(qkv: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(*qkv.float().unbind()).to(qkv.dtype)


def _both(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], object]:
    def run() -> None:
        function(x).sum().backward()

    return run


if __name__ == "__main__":
    main()
