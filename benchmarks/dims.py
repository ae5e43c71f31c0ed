"""Time one network in 1, 2 and 3 dimensions: elements a second, and the share of the matrix rate.

python benchmarks/dims.py

Every batch holds as many elements (4,096 a signal, 64 x 64 a picture, 16^3 a volume) and every
network has the same widths; a volume's kernels are 27 weights instead of 9 or 3, hence the column
of the arithmetic done. Going down halves each axis, so that a signal's lower levels keep more of
its elements than a picture's: hence the last column, of the numbers that convolutions return. The
dimensions are timed in turn, so that ratios can be trusted where the machine's speed wanders.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F
from common import interleave, matrix_rate, processor, ratio
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from iddpm.builders import place
from iddpm.networks import UNet
from iddpm.networks.convolution import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)
from iddpm.training.precision import Precision

CONVOLUTIONS = (Conv1d, Conv2d, Conv3d, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d)
SIZES = {1: (4096,), 2: (64, 64), 3: (16, 16, 16)}


def make(dims: int, channels: int) -> nn.Module:
    """Return a U-Net without attention, whose cost would grow with the positions alone."""
    network = UNet(
        dims=dims,
        in_channels=1,
        out_channels=2,
        model_channels=channels,
        num_res_blocks=1,
        channel_mult=(1, 2, 2, 2),
        stride=(2,) * dims,
    )
    place(network, torch.device("cpu"))
    return network


def forward(network: nn.Module, x: Tensor, t: Tensor, precision: Precision) -> Callable[[], None]:
    """Return a call without gradients."""

    def run() -> None:
        with torch.no_grad(), precision.autocast():
            network(x, t)

    return run


def training(network: nn.Module, x: Tensor, t: Tensor, precision: Precision) -> Callable[[], None]:
    """Return a forward and backward pass and the optimizer's step."""
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with precision.autocast():
            y = network(x, t)
        F.mse_loss(y.float(), torch.zeros_like(y, dtype=torch.float32)).backward()
        optimizer.step()

    return run


def flops(network: nn.Module, x: Tensor, t: Tensor, *, backward: bool) -> float:
    """Return the floating-point operations of a call."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        y = network(x, t)
        if backward:
            y.sum().backward()
    return float(counter.get_total_flops())


def activations(network: nn.Module, x: Tensor, t: Tensor) -> int:
    """Return how many numbers the convolutions of a call return."""
    counted = []
    hooks = [
        module.register_forward_hook(lambda _, __, y: counted.append(y.numel()))
        for module in network.modules()
        if isinstance(module, CONVOLUTIONS)
    ]
    with torch.no_grad():
        network(x, t)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def main() -> None:
    """Print a table for each precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print(processor())
    t = torch.full((arguments.batch,), 500.0)
    inputs = {d: torch.randn(arguments.batch, 1, *size) for d, size in SIZES.items()}
    networks = {d: make(d, arguments.channels) for d in SIZES}
    numbers = {d: activations(networks[d], x, t) for d, x in inputs.items()}
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        precision = Precision(name, torch.device("cpu"))  # type: ignore[arg-type]
        rate = matrix_rate(dtype)
        print(f"\n{name}: matrix product {rate / 1e9:.0f} GFLOP/s")
        print(
            "| work | dims | elements/s | to 2-D | of the matrix rate | to 2-D "
            "| activations/s, to 2-D |"
        )
        print("|---|---|---|---|---|---|---|")
        for work, case in (("forward", forward), ("training step", training)):
            cases = {str(d): case(networks[d], x, t, precision) for d, x in inputs.items()}
            seconds = interleave(cases, arguments.rounds)
            rate = max(rate, matrix_rate(dtype))
            done = {
                d: flops(networks[d], x, t, backward=work != "forward") for d, x in inputs.items()
            }
            for d, x in inputs.items():
                faster = 1 / ratio(seconds, str(d), "2")
                median = statistics.median(seconds[str(d)])
                share = done[d] / median / rate
                print(
                    f"| {work} | {d} | {x.numel() / median:,.0f} | {faster:.2f} | {share:.0%} | "
                    f"{faster * done[d] / done[2]:.2f} | "
                    f"{faster * numbers[d] / numbers[2]:.2f} |"
                )


if __name__ == "__main__":
    main()
