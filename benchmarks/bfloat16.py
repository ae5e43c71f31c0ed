"""Time what bfloat16 on CPUs is slow at, and the way around it that the networks take.

python benchmarks/bfloat16.py

PyTorch's group normalization with the channels last, the backward pass of its attention over few
positions, and its convolutions of signals. Every case is timed beside its alternative, round by
round; the ratios are medians.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from common import interleave, processor, ratio
from torch import Tensor, nn

from iddpm.networks.convolution import Conv1d
from iddpm.networks.layers import GroupNorm

ROUNDS = 7


def main() -> None:
    """Print the tables."""
    print(processor())
    print("\ngroup normalization, channels last: forward and backward, torch.nn's over ours;")
    print("forward alone, the copies to channels first and back over ours")
    for n, channels, size in ((64, 32, 28), (64, 64, 14), (16, 128, 32), (8, 256, 16)):
        x = torch.randn(n, channels, size, size, dtype=torch.bfloat16)
        x = x.to(memory_format=torch.channels_last).requires_grad_()
        plain, ours = nn.GroupNorm(32, channels), GroupNorm(32, channels)
        seconds = interleave({"plain": _both(plain, x), "ours": _both(ours, x)}, ROUNDS)
        with torch.no_grad():
            alone = interleave(
                {"copies": partial(_copied, plain, x), "ours": partial(ours, x)}, ROUNDS
            )
        print(
            f"  {list(x.shape)!s:<20} {ratio(seconds, 'plain', 'ours'):6.2f} "
            f"{ratio(alone, 'copies', 'ours'):6.2f}"
        )
    print("\nconvolution of signals, the channels last: torch.nn's over ours (forward)")
    for channels, length in ((32, 4096), (64, 2048), (64, 512)):
        x = torch.randn(4, length, channels, dtype=torch.bfloat16).mT
        plain, ours = (kind(channels, channels, 3, padding=1) for kind in (nn.Conv1d, Conv1d))
        with torch.no_grad():
            cases = {"plain": partial(plain.bfloat16(), x), "ours": partial(ours.bfloat16(), x)}
            seconds = interleave(cases, ROUNDS)
            first = interleave({**cases, "plain": partial(plain, x.contiguous())}, ROUNDS)
        print(
            f"  {list(x.shape)!s:<20} {ratio(seconds, 'plain', 'ours'):6.2f}, "
            f"channels first {ratio(first, 'plain', 'ours'):6.2f}"
        )
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


def _copied(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    return norm(x.contiguous()).contiguous(memory_format=torch.channels_last)


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
