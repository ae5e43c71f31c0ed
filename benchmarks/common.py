"""What the benchmarks share: interleaved timing, the machine's best rates, and its description."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F

from iddpm.runtime.processor import instruction_sets, processor_name


def interleave(
    cases: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1
) -> dict[str, list[float]]:
    """Time every case once per round, in an order that turns, and return the seconds per round.

    Neighbours in time share the machine's mood, so ratios within one round can be trusted where
    the times themselves wander.
    """
    names = list(cases)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(warmup):
        for name in names:
            cases[name]()
    for turn in range(rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            cases[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, other: str) -> float:
    """Return the median over rounds of the time of ``name`` divided by that of ``other``."""
    pairs = zip(seconds[name], seconds[other], strict=True)
    return statistics.median(a / b for a, b in pairs)


def matrix_rate(dtype: torch.dtype, size: int = 2048, repeats: int = 9) -> float:
    """Return the median rate in FLOP/s of a square matrix product in ``dtype``."""
    a = torch.randn(size, size).to(dtype)
    b = torch.randn(size, size).to(dtype)
    seconds = interleave({"product": lambda: a @ b}, repeats)["product"]
    return 2 * size**3 / statistics.median(seconds)


def best_rate(dtype: torch.dtype, repeats: int = 9) -> float:
    """Return the best rate in FLOP/s seen in ``dtype``, of convolutions and of a matrix product.

    A matrix product alone is no bound: on AMD processors convolutions reach more.
    """
    cases: dict[str, Callable[[], object]] = {}
    flops: dict[str, float] = {}
    for channels, size in ((64, 64), (128, 32), (256, 16), (512, 16)):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(8, channels, size, size).to(dtype).to(memory_format=layout)
            weight = torch.randn(channels, channels, 3, 3).to(dtype).to(memory_format=layout)
            name = f"{channels} channels, {size} x {size}, {layout}"
            cases[name] = partial(F.conv2d, x, weight, padding=1)
            flops[name] = 2.0 * weight.numel() * 8 * size * size
    with torch.no_grad():
        seconds = interleave(cases, repeats)
    found = (flops[name] / statistics.median(times) for name, times in seconds.items())
    return max(matrix_rate(dtype, repeats=repeats), *found)


def processor() -> str:
    """Return one line about processor, threads and PyTorch, to print above any numbers."""
    kinds = ("avx512f", "avx512_bf16", "amx_bf16")
    units = [unit for unit in instruction_sets() if unit in kinds]
    return (
        f"{processor_name()} ({', '.join(units) or 'no AVX-512'}), "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}"
    )
