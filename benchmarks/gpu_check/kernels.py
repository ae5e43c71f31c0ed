"""Sections about networks alone: layouts, compilation, the optimizer, memory, processes, speed."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.cifar10_networks import Peer, our_network
from benchmarks.common import interleave, ratio
from benchmarks.gpu_check.outcomes import Facts, Machine, Skipped
from iddpm.networks import UNet
from iddpm.runtime.processes import Ranks
from iddpm.training.parallel import replicate, shard

Call = Callable[[], object]
FLOAT32, BFLOAT16 = 1e-4, 0.05
"""Largest errors, as shares of the largest output: sums in another order, and 8 bits of mantissa
through some 20 layers."""


def small_network(dims: int) -> nn.Module:
    """Return a network of each dimension with every kind of layer, the same each time."""
    torch.manual_seed(0)
    network = UNet(
        dims=dims, in_channels=2, out_channels=2, model_channels=32, num_res_blocks=1,
        channel_mult=(1, 2), attention_downsampling=(2,), num_heads=2,
    )  # fmt: skip
    with torch.no_grad():  # a fresh network returns zeros, which prove nothing
        for parameter in network.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return network


def example(machine: Machine, dims: int) -> tuple[Tensor, Tensor]:
    """Return noisy items and their timesteps."""
    items, size = (2, 8) if machine.short else (16, 64 if dims < 3 else 32)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(items, 2, *[size] * dims, generator=generator)
    return x.to(machine.device), torch.arange(items, device=machine.device) * 10.0


@contextmanager
def exact() -> Iterator[None]:
    """Compute float32 convolutions in float32 and not in TF32."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def difference(output: Tensor, expected: Tensor) -> float:
    """Return the largest error as a share of the largest value."""
    return float((output.float() - expected).abs().max() / expected.abs().max())


def backward(network: nn.Module, x: Tensor, t: Tensor, *, half: bool = False) -> Tensor:
    """Do a forward and a backward pass, and return the output."""
    network.zero_grad(set_to_none=True)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        output: Tensor = network(x, t)
    output.float().square().mean().backward()
    return output.detach()


def timed(machine: Machine, cases: dict[str, Call]) -> dict[str, list[float]]:
    """Time cases in turn, each until the device has done it."""

    def until_done(case: Call) -> None:
        case()
        machine.wait()

    waiting = {name: partial(until_done, case) for name, case in cases.items()}
    return interleave(waiting, rounds=1 if machine.short else 10, warmup=0 if machine.short else 3)


def layouts(machine: Machine) -> Facts:
    """Channels last in 2-D and 3-D: the same values, in float32 and in bf16; which is faster."""
    facts: dict[str, float | str] = {}
    for dims, layout in ((2, torch.channels_last), (3, torch.channels_last_3d)):
        x, t = example(machine, dims)
        plain = small_network(dims).to(machine.device)
        last: Any = copy.deepcopy(plain).to(memory_format=layout)  # type: ignore[call-overload]
        with exact():
            expected = backward(plain, x, t)
            error = difference(backward(last, x, t), expected)
        assert error <= FLOAT32, f"{dims}-D channels_last differs by {error:.1e} in float32"
        facts[f"{dims}-D, error of channels_last in float32"] = error
        for name, network in (("contiguous", plain), ("channels_last", last)):
            error = difference(backward(network, x, t, half=True), expected)
            assert error <= BFLOAT16, f"{dims}-D {name} differs by {error:.1e} in bf16"
            facts[f"{dims}-D, error of bf16, {name}"] = error
        for kind, half in (("float32", False), ("bf16", True)):
            seconds = timed(machine, {
                "last": partial(backward, last, x, t, half=half),
                "plain": partial(backward, plain, x, t, half=half),
            })  # fmt: skip
            facts[f"{dims}-D, {kind}: time of channels_last to contiguous"] = ratio(
                seconds, "last", "plain"
            )
    return facts


def compiled(machine: Machine) -> Facts:
    """torch.compile: the same values, and the time of a pass.

    The short case stops before code is generated, which takes minutes on a CPU.
    """
    x, t = example(machine, 2)
    plain = small_network(2).to(machine.device)
    backend = "aot_eager" if machine.short else "inductor"
    fast: Any = torch.compile(copy.deepcopy(plain), backend=backend)
    with exact():
        error = difference(backward(fast, x, t), backward(plain, x, t))
    assert error <= FLOAT32, f"the compiled network differs by {error:.1e}"
    seconds = timed(machine, {
        "compiled": partial(backward, fast, x, t), "eager": partial(backward, plain, x, t)
    })  # fmt: skip
    time = ratio(seconds, "compiled", "eager")
    return {"backend": backend, "error": error, "time of compiled to eager": time}


def adamw(machine: Machine) -> Facts:
    """The forms of AdamW: the same weights after three steps, and the time of a step."""
    base = small_network(2) if machine.short else our_network()
    x = torch.Generator().manual_seed(0)
    gradients = [torch.randn(p.shape, generator=x) for p in base.parameters()]
    forms: dict[str, dict[str, bool]] = {
        "loop": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}
    }  # fmt: skip
    cases: dict[str, Call] = {}
    weights: dict[str, Tensor] = {}
    for name, form in forms.items():
        network = copy.deepcopy(base).to(machine.device)
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            parameter.grad = gradient.to(machine.device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, **form)
        for _ in range(3):
            optimizer.step()
        weights[name] = torch.cat([p.detach().flatten() for p in network.parameters()])
        cases[name] = optimizer.step
    errors = {name: difference(weights[name], weights["loop"]) for name in ("foreach", "fused")}
    assert max(errors.values()) <= FLOAT32, f"forms of AdamW differ: {errors}"
    seconds = timed(machine, cases)
    return {
        **{f"error of {name}": error for name, error in errors.items()},
        "time of fused to foreach": ratio(seconds, "fused", "foreach"),
        "time of fused to loop": ratio(seconds, "fused", "loop"),
    }


def one_rank(machine: Machine) -> Facts:
    """DDP and FSDP on one rank, by NCCL on a GPU: the same losses as without them."""
    backend = "cpu:gloo,cuda:nccl" if machine.gpu else "gloo"
    device = torch.device("cuda", torch.cuda.current_device()) if machine.gpu else machine.device
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    try:
        total = torch.ones(1, device=device)
        dist.all_reduce(total)
        assert total.item() == 1
        with exact():
            expected = losses(machine, small_network(2).to(device))
            replicated, _ = replicate(small_network(2).to(device), device)
            ddp = losses(machine, replicated)
            network = small_network(2)
            shard(network, Ranks(), device)
            fsdp = losses(machine, network)
    finally:
        dist.destroy_process_group()
    facts = {}
    for name, found in (("DDP", ddp), ("FSDP", fsdp)):
        error = max(abs(a - b) / b for a, b in zip(found, expected, strict=True))
        assert error <= FLOAT32, f"losses under {name} differ by {error:.1e}"
        facts[f"error of the losses under {name}"] = error
    return {"backend": backend, **facts}


def losses(machine: Machine, network: nn.Module) -> list[float]:
    """Return the losses of three steps; the second and third follow from the gradients."""
    x, t = example(machine, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    found = []
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        loss = F.mse_loss(network(x, t), x)
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found


def transfer(machine: Machine) -> Facts:
    """Copies from page-locked memory arrive whole, and faster."""
    if not machine.gpu:
        raise Skipped("copies to a GPU have no meaning on a CPU")
    pageable = torch.randint(0, 256, (2**26,), dtype=torch.uint8)
    pinned = pageable.pin_memory()
    assert torch.equal(pinned.to(machine.device, non_blocking=True).cpu(), pageable)
    seconds = timed(machine, {
        "pinned": lambda: pinned.to(machine.device, non_blocking=True),
        "pageable": lambda: pageable.to(machine.device),
    })  # fmt: skip
    return {"time of pinned to pageable": ratio(seconds, "pinned", "pageable")}


def peer(machine: Machine) -> Facts:
    """The CIFAR-10 network against diffusers': ratios of time, items per second, memory."""
    if find_spec("diffusers") is None:
        raise Skipped("diffusers is not installed")
    batch = 1 if machine.short else 128
    x = torch.randn(batch, 3, 32, 32, device=machine.device)
    t = torch.randint(0, 1000, (batch,), device=machine.device)
    facts: dict[str, float | str] = {"batch": batch}
    ours, theirs = our_network().to(machine.device), Peer().to(machine.device)
    last: Any = copy.deepcopy(ours).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    networks = {"ours": ours, "ours, channels_last": last, "diffusers": theirs}
    for kind, half in (("float32", False), ("bf16", True)):
        for work in ("sampling", "training"):
            cases = {
                name: partial(backward, network, x, t, half=half)
                if work == "training"
                else partial(_forward, network, x, t, half=half)
                for name, network in networks.items()
            }
            seconds = timed(machine, cases)
            for name in ("ours", "ours, channels_last"):
                facts[f"{work}, {kind}: time of {name} to diffusers"] = ratio(
                    seconds, name, "diffusers"
                )
            facts[f"{work}, {kind}: items per second, ours"] = batch / min(seconds["ours"])
    for name in ("ours", "diffusers"):
        machine.restart_memory()
        backward(networks[name], x, t, half=True)
        facts |= {f"{k}, {name}, bf16": v for k, v in machine.peak_memory().items()}
    return facts


def _forward(network: nn.Module, x: Tensor, t: Tensor, *, half: bool) -> None:
    with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=half):
        network(x, t)
