"""Peak memory and the share of the device's arithmetic that training uses."""

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch

from iddpm.training.precision import Precision

LATER = 60.0
"""Seconds of training after which the device is measured; short runs are not."""


class Effort:
    """Measure memory and the share of the device's arithmetic for the log.

    ``memory_mb`` is the most memory so far, in MB (10^6 bytes): what PyTorch allocated on a GPU,
    the resident size of this process elsewhere. ``compute_share`` is the arithmetic that the
    network needs for the items learned in a second, over the rate at which this very device
    multiplies large matrices in the same precision. That rate is measured once, when training has
    gone on for a minute, in a quarter of a second; no table says what a device could do.

    Args:
        precision: how the network computes, and where.
        flops: returns the floating-point operations that training takes for an item.
        later: seconds before the device is measured.
    """

    def __init__(
        self,
        precision: Precision,
        flops: Callable[[], float] | None = None,
        later: float = LATER,
    ) -> None:
        self.precision = precision
        self.flops = flops
        self.later = later
        self._started = time.monotonic()
        self._most = 0.0
        """Items per second at the device's peak rate; 0 if unknown."""

    def read(self, items_per_second: float) -> dict[str, Any]:
        """Return the measurements of this process at a rate of items per second."""
        record: dict[str, Any] = {"memory_mb": round(peak_memory(self.precision.device) / 1e6, 1)}
        if self.flops is not None and time.monotonic() - self._started >= self.later:
            with suppress(torch.OutOfMemoryError):  # no memory for the measurement: unknown
                self._most = matmul_rate(self.precision.device, self.precision.dtype) / self.flops()
            self.flops = None
        if self._most:
            record["compute_share"] = items_per_second / self._most
        return record


def peak_memory(device: torch.device) -> int:
    """Return the most memory so far in bytes: PyTorch's on a GPU, else this process's.

    Processes that read data ahead are not counted.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:
        # Before getrusage, whose number a process inherits from the one that started it.
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.2) -> float:
    """Return the best rate of a square matrix product in FLOP/s, measured for ``seconds``."""
    size = 1024 if device.type == "cpu" else 4096
    generator = torch.Generator(device).manual_seed(0)  # the global generator is not used
    a = torch.randn(size, size, generator=generator, device=device).to(dtype)
    best, end = float("inf"), time.perf_counter() + seconds
    while (start := time.perf_counter()) < end or best == float("inf"):
        (a @ a)[0, 0].item()  # waits for the device
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
