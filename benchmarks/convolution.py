"""Time a 3x3 convolution, forward and backward, in float32 and bfloat16 and in both layouts.

python benchmarks/convolution.py

``training.precision=auto`` times convolutions such as these to choose between the two on a CPU.
All variants are timed in turn, several rounds, and medians are printed with their ratio to float32.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

SIZES = ((32, 28), (64, 14), (128, 16))
VARIANTS = (
    ("float32", torch.float32, torch.contiguous_format),
    ("float32 channels_last", torch.float32, torch.channels_last),
    ("bfloat16", torch.bfloat16, torch.contiguous_format),
    ("bfloat16 channels_last", torch.bfloat16, torch.channels_last),
)


def make(channels: int, size: int, dtype: torch.dtype, layout: torch.memory_format) -> Callable:
    """Return a function that runs one forward and backward pass of a batch of 64."""
    x = torch.randn(64, channels, size, size).to(dtype).to(memory_format=layout)
    weight = (0.1 * torch.randn(channels, channels, 3, 3)).to(dtype).to(memory_format=layout)
    gradient = torch.randn_like(x)
    x.requires_grad_()
    weight.requires_grad_()

    def both() -> None:
        torch.autograd.grad(F.conv2d(x, weight, padding=1), (x, weight), gradient)

    return both


def main() -> None:
    """Print a line per size and variant."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    amx = getattr(torch.cpu, "_is_amx_tile_supported", bool)()
    print(f"matrix units (AMX): {'yes' if amx else 'no'}; {torch.get_num_threads()} threads")
    for channels, size in SIZES:
        runs = {name: make(channels, size, dtype, layout) for name, dtype, layout in VARIANTS}
        times: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(arguments.rounds + 1):
            for name, run in runs.items():
                start = time.perf_counter()
                run()
                if number:  # the first round warms up
                    times[name].append(time.perf_counter() - start)
        base = statistics.median(times["float32"])
        for name, values in times.items():
            median = statistics.median(values)
            print(
                f"{channels:>4} channels {size:>3} x {size:<3} {name:<24}"
                f"{1000 * median:8.1f} ms  {median / base:5.2f}"
            )


if __name__ == "__main__":
    main()
