"""What gradient checkpointing saves and costs: memory kept for the backward pass, peak, and time.

The network and batch are those of ``benchmarks/network.py``.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from cifar10_networks import our_network
from common import interleave, processor, ratio
from torch import Tensor, nn

ENGINES = {"off": None, "function": "function", "torch": "torch"}


def network_with(engine: str | None) -> nn.Module:
    """Return the benchmark's network, recomputing with ``engine`` or not at all."""
    network = our_network().train()
    for module in network.modules():
        if hasattr(module, "use_checkpoint"):
            module.use_checkpoint = engine is not None
            module.checkpoint_engine = engine or "function"
    return network


def kept_megabytes(step: Callable[[], Tensor], parameters: set[int]) -> float:
    """Return the bytes of the distinct storages that the forward pass keeps, weights left out."""
    kept: dict[int, int] = {}
    alive = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # an address that lives is not given out again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values()) / 1e6


def peak_megabytes(run: Callable[[], None]) -> float:
    """Return by how much allocations rise above their start while ``run`` runs (profiler)."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        run()
    level = peak = 0
    events = profile.profiler.kineto_results.events()  # type: ignore[union-attr]
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default 9)")
    parser.add_argument("--batch", type=int, default=8, help="images per batch (default 8)")
    parser.add_argument("--threads", type=int, help="threads (default: PyTorch's choice)")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    x, t = torch.randn(args.batch, 3, 32, 32), torch.randint(0, 4000, (args.batch,))

    steps: dict[str, Callable[[], object]] = {}
    memory = {}
    for name, engine in ENGINES.items():
        network = network_with(engine)
        parameters = {p.untyped_storage().data_ptr() for p in network.parameters()}

        def forward(network: nn.Module = network) -> Tensor:
            loss: Tensor = network(x, t).square().mean()
            return loss

        def step(network: nn.Module = network, forward: Callable[[], Tensor] = forward) -> None:
            # Gradients exist from the first step on, so that they do not count as activations.
            network.zero_grad(set_to_none=False)
            forward().backward()

        step()
        memory[name] = kept_megabytes(forward, parameters), peak_megabytes(step)
        steps[name] = step

    seconds = interleave(steps, args.rounds)
    print(processor())
    print(f"forward and backward, float32, batch {args.batch}, {args.rounds} rounds")
    print(f"{'checkpointing':16}{'kept MB':>10}{'peak MB':>10}{'median s':>10}{'to off':>8}")
    for name, (kept, peak) in memory.items():
        median = statistics.median(seconds[name])
        print(f"{name:16}{kept:10.0f}{peak:10.0f}{median:10.3f}{ratio(seconds, name, 'off'):8.2f}")


if __name__ == "__main__":
    main()
