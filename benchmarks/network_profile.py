"""Print where the CIFAR-10 network's time goes, kernel by kernel, in a forward pass and a step.

``python benchmarks/network_profile.py`` runs one thread and reads the thread's own clock around
every kernel, so that other programs on the machine add little. A step is that of training: loss,
backward pass, gradient norm and clip, AdamW and one moving average.
"""

import argparse
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from cifar10_networks import Peer, our_network
from common import processor
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from iddpm.networks.kernels import use_fast_kernels
from iddpm.training.ema import EMA

GROUPS = {
    "convolution": ("conv",),
    "group norm": ("native_group_norm",),
    "SiLU": ("silu",),
    "attention": ("_scaled_dot_product", "_softmax", "bmm", "baddbmm"),
    "linear": ("addmm", "mm"),
    "copies and casts": ("_to_copy", "copy_", "clone", "cat", "constant_pad"),
    "dropout": ("bernoulli", "native_dropout", "random_"),
    "optimizer": ("_fused_adamw",),
    "EMA": ("_foreach_lerp", "_foreach_copy"),
    "gradient norm and clip": ("_foreach_norm", "_foreach_mul", "linalg_vector_norm"),
    "loss": ("mse_loss",),
    "sums and products": ("add", "mul", "sum", "div", "sub"),
}
"""Parts of the time by the beginning of a kernel's name; the first that fits counts."""


class KernelTimes(TorchDispatchMode):
    """Add up the thread's CPU time of every kernel, by its name."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        started = time.thread_time()
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.seconds[name] += time.thread_time() - started
        self.calls[name] += 1
        return result


class Case:
    """A network with a precision, whose forward passes and steps are counted."""

    def __init__(self, network: nn.Module, precision: str, batch: int) -> None:
        self.network = network
        self.autocast = precision == "bf16"
        self.x, self.t = torch.randn(batch, 3, 32, 32), torch.randint(0, 4000, (batch,))
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, fused=True)
        self.ema = EMA(network, 0.9999)

    def forward(self) -> Tensor:
        """Return the network's output."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            output: Tensor = self.network(self.x, self.t)
        return output

    def sampling(self) -> None:
        """Do a forward pass as a sampler does it."""
        self.network.eval()
        with torch.no_grad():
            self.forward()

    def step(self) -> None:
        """Do a training step."""
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        output = self.forward().float()
        F.mse_loss(output, torch.zeros_like(output)).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.ema.update(self.network)


def measure(run: Callable[[], None], rounds: int) -> KernelTimes:
    """Return the CPU times of the round that took least."""
    run()
    found = [KernelTimes() for _ in range(rounds)]
    for times in found:
        with times:
            run()
    return min(found, key=lambda times: sum(times.seconds.values()))


def part(name: str) -> str:
    """Return the part of the time that a kernel belongs to."""
    for group, starts in GROUPS.items():
        if name.startswith(starts):
            return group
    return "other"


def largest(seconds: dict[str, float]) -> list[tuple[str, float]]:
    """Return the items in falling order."""
    return sorted(seconds.items(), key=lambda item: -item[1])


def show(times: KernelTimes, kernels: int) -> None:
    """Print a table of parts and one of the kernels that take most."""
    total = sum(times.seconds.values())
    parts: defaultdict[str, float] = defaultdict(float)
    for name, seconds in times.seconds.items():
        parts[part(name)] += seconds
    for name, seconds in largest(parts):
        print(f"{name:38}{seconds * 1e3:9.1f} ms{seconds / total:7.1%}")
    print(f"{'all':38}{total * 1e3:9.1f} ms")
    for name, seconds in largest(times.seconds)[:kernels]:
        print(f"    {name:46}{seconds * 1e3:9.1f} ms{times.calls[name]:6} calls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8, help="images per batch (default 8)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, the best counts (default 3)")
    parser.add_argument("--kernels", type=int, default=12, help="kernels to list (default 12)")
    parser.add_argument("--only", choices=["forward", "step"], help="one kind of work")
    parser.add_argument("--precision", choices=["float32", "bf16"], help="one precision")
    parser.add_argument("--diffusers", action="store_true", help="diffusers' network instead")
    parser.add_argument("--fast", action="store_true", help="training.kernels=fast")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(processor())
    network = Peer() if args.diffusers else our_network().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if args.fast:
        use_fast_kernels(network)
    for precision in [args.precision] if args.precision else ["float32", "bf16"]:
        case = Case(network, precision, args.batch)
        for work, run in {"forward": case.sampling, "step": case.step}.items():
            if args.only in (None, work):
                print(f"\n{work}, {precision}, batch {args.batch}")
                show(measure(run, args.rounds), args.kernels)


if __name__ == "__main__":
    main()
