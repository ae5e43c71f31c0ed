"""Time the faster kernels of training.kernels=fast, and cast weights, beside PyTorch's way.

python benchmarks/kernels.py

Every line has the smallest times of a call that each needed in alternating rounds, by the
thread's own clock, and their ratio; forward and backward where nothing else is said. One thread.
"""

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from cifar10_networks import our_network
from common import processor
from torch import Tensor

from iddpm.networks.attention import self_attention
from iddpm.networks.cast_weights import cast_weights
from iddpm.networks.dropout import Dropout
from iddpm.networks.layers import normalization
from iddpm.networks.norm_activation import norm_activation

ROUNDS = 7


def compare(name: str, plain: Callable[[], Any], fast: Callable[[], Any]) -> None:
    """Print the smallest times in ms and their ratio."""
    least = {plain: float("inf"), fast: float("inf")}
    for call in least:
        call()
    for _ in range(ROUNDS):
        for call in least:
            started = time.thread_time()
            call()
            least[call] = min(least[call], time.thread_time() - started)
    a, b = least.values()
    print(f"{name:58}{a * 1e3:9.2f}{b * 1e3:9.2f}{b / a:8.2f}", flush=True)


def pictures(n: int, channels: int, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return random data with the channels last."""
    x = torch.randn(n, channels, size, size).to(dtype)
    return x.to(memory_format=torch.channels_last).requires_grad_()


def both(run: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> Callable[[], object]:
    """Return a call of forward and backward."""
    gradient = torch.randn_like(run(*inputs))
    return lambda: torch.autograd.grad(run(*inputs), inputs, gradient)


def normalizations() -> None:
    """Normalization with FiLM and SiLU, groups of four channels, float32."""
    for n, channels, size in ((32, 32, 28), (32, 64, 14), (8, 128, 32)):
        x = pictures(n, channels, size)
        film = [torch.randn(n, channels, requires_grad=True) for _ in range(2)]
        runs = []
        for fast in (False, True):
            norm = normalization(channels, 4)
            norm.fast = fast
            run = lambda x, *film, norm=norm: norm_activation(norm, torch.nn.SiLU(), x, *film)  # noqa: E731
            runs.append(both(run, (x, *film)))
        compare(f"normalization, FiLM, SiLU {list(x.shape)}", *runs)


def attentions() -> None:
    """Attention in training with bfloat16."""
    for n, length in ((8, 256), (8, 64), (64, 49), (32, 196)):
        qkv = torch.randn(n, length, 768).bfloat16().requires_grad_()
        runs = [
            both(lambda qkv, fast=fast: self_attention(qkv, 4, "heads_first", fast), (qkv,))
            for fast in (False, True)
        ]
        compare(f"attention of 4 heads, bfloat16 {list(qkv.shape)}", *runs)


def dropouts() -> None:
    """Dropout, forward."""
    for dtype in (torch.float32, torch.bfloat16):
        x = pictures(8, 256, 16, dtype).detach()
        plain, fast = Dropout(0.3), Dropout(0.3)
        fast.fast = True
        compare(f"dropout, forward, {dtype} {list(x.shape)}", lambda: plain(x), lambda: fast(x))  # noqa: B023


def cast_once() -> None:
    """A forward pass of the CIFAR-10 network under autocast, its weights cast before."""
    network: Any = our_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.eval().requires_grad_(False)  # autocast remembers only weights that need a gradient
    cast: Any = copy.deepcopy(network)
    for n in (1, 8):
        x, t = torch.randn(n, 3, 32, 32), torch.zeros(n)
        name = f"weights cast once, forward, bfloat16 {list(x.shape)}"
        half = torch.bfloat16
        with torch.no_grad(), torch.autocast("cpu", half), cast_weights(cast, half):
            compare(name, partial(network, x, t), partial(cast, x, t))


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(processor())
    print(f"{'':58}{'plain ms':>9}{'fast ms':>9}{'ratio':>8}")
    normalizations()
    attentions()
    dropouts()
    cast_once()


if __name__ == "__main__":
    main()
