"""Time our U-Net against diffusers' UNet2DModel of the same widths, interleaved in one process.

The network is the released CIFAR-10 one of Improved DDPM.
"""

import argparse
import copy
import json
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from cifar10_networks import Peer, our_network
from common import best_rate, interleave, processor, ratio
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

Case = Callable[[], object]
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def forward_case(
    network: nn.Module, x: Tensor, t: Tensor, *, autocast: bool, compiled: bool
) -> Case:
    """Return a call without gradients, as a sampler makes it."""
    model = network.eval()
    call = torch.compile(model) if compiled else model

    def run() -> None:
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            call(x, t)

    return run


def train_case(
    network: nn.Module, x: Tensor, t: Tensor, *, autocast: bool, fused: bool, compiled: bool
) -> Case:
    """Return a whole training step: forward, mean squared error, backward, AdamW."""
    model = network.train()
    call = torch.compile(model) if compiled else model
    # PyTorch's default on a CPU is a loop over the parameters, and that is what None means here.
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True if fused else None)
    target = torch.randn(x.shape[0], 6, *x.shape[2:])

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            output = call(x, t)
        F.mse_loss(output.float(), target).backward()
        optimizer.step()

    return run


def build_cases(batch: int, compiled: bool) -> dict[str, dict[str, Case]]:
    """Return what is timed: for each kind of work, a call by name."""
    x, t = torch.randn(batch, 3, 32, 32), torch.randint(0, 4000, (batch,))
    ours, peer = our_network(), Peer()

    def forward(network: nn.Module, autocast: bool) -> Case:
        return forward_case(network, x, t, autocast=autocast, compiled=compiled)

    def train(network: nn.Module, autocast: bool, fused: bool) -> Case:
        fresh = copy.deepcopy(network)
        return train_case(fresh, x, t, autocast=autocast, fused=fused, compiled=compiled)

    # Weights in channels_last are enough: convolutions then give that layout to what follows.
    last = copy.deepcopy(ours).to(memory_format=torch.channels_last)
    half = copy.deepcopy(last).bfloat16()
    half_x = x.bfloat16()
    return {
        "forward": {
            "ours float32": forward(ours, False),
            "diffusers float32": forward(peer, False),
            "ours float32, channels_last": forward(last, False),
            "ours bf16 autocast": forward(ours, True),
            "diffusers bf16 autocast": forward(peer, True),
            "ours bf16 weights, channels_last": forward_case(
                half, half_x, t, autocast=False, compiled=compiled
            ),
        },
        "train step": {
            "ours float32": train(ours, False, True),
            "diffusers float32": train(peer, False, False),
            "ours float32, channels_last": train(last, False, True),
            "diffusers float32, fused AdamW": train(peer, False, True),
            "ours bf16 autocast": train(ours, True, True),
            "diffusers bf16 autocast, fused AdamW": train(peer, True, True),
        },
    }


def count_flops(batch: int) -> dict[str, float]:
    """Return the floating-point operations of our forward pass and of forward and backward."""
    network, x, t = our_network(), torch.randn(batch, 3, 32, 32), torch.zeros(batch)
    # The counter knows no fused attention on CPUs, so the attention is written out for it.
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False) as forward, torch.no_grad():
            network(x, t)
        with FlopCounterMode(display=False) as train:
            network(x, t).sum().backward()
    return {"forward": forward.get_total_flops(), "train step": train.get_total_flops()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--batch", type=int, default=8, help="images per batch (default 8)")
    parser.add_argument("--threads", type=int, help="threads (default: PyTorch's choice)")
    parser.add_argument("--compile", action="store_true", help="torch.compile (minutes at first)")
    parser.add_argument("--only", choices=["forward", "train step"], help="one kind of work")
    parser.add_argument("--float32", action="store_true", help="leave the bf16 cases out")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)

    print(processor())
    for network, name in ((our_network(), "ours"), (Peer(), "diffusers")):
        print(f"{name}: {sum(p.numel() for p in network.parameters()):,} parameters")
    rates = {kind: best_rate(dtype) for kind, dtype in DTYPES.items()}
    print(", ".join(f"best {k} rate: {v / 1e9:.0f} GFLOP/s" for k, v in rates.items()))
    flops = count_flops(args.batch)

    results: dict[str, object] = {"processor": processor(), "rates": rates, "flops": flops}
    for work, cases in build_cases(args.batch, args.compile).items():
        if args.only not in (None, work):
            continue
        if args.float32:
            cases = {name: case for name, case in cases.items() if "float32" in name}
        seconds = interleave(cases, args.pairs)
        # On a shared machine the rate wanders too: the best one seen is the machine's.
        rates = {kind: max(rates[kind], best_rate(dtype)) for kind, dtype in DTYPES.items()}
        results[work] = seconds
        print(f"\n{work}, batch {args.batch}: {flops[work] / 1e9:.0f} GFLOP, {args.pairs} rounds")
        print(f"{'':38}{'median s':>9}{'to diffusers float32':>22}{'of best rate':>16}")
        for name, times in seconds.items():
            rate = rates["bf16" if "bf16" in name else "float32"]
            median = statistics.median(times)
            print(
                f"{name:38}{median:9.3f}{ratio(seconds, name, 'diffusers float32'):22.3f}"
                f"{flops[work] / median / rate:16.0%}"
            )
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
