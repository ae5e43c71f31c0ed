"""The choice of ``training.precision=auto``, measured on the network's own convolutions."""

import copy
import json
import math
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from operator import mul
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders.meta_network import on_meta_device
from iddpm.builders.network import count_inputs, count_outputs
from iddpm.config import ResolvedConfig
from iddpm.data.cache import digest, user_cache
from iddpm.networks.magnitude_layers import MagnitudeConv
from iddpm.runtime.atomic_files import write_json
from iddpm.runtime.processor import processor_name
from iddpm.training.precision import Precision, PrecisionName, computes_bfloat16

MARGIN = 1.1
"""The factor by which bfloat16 must be faster: casts and normalizations gain less."""
KINDS = 3
"""Number of convolutions that are timed: those with most of the arithmetic."""
_PRODUCTS = 3e7
"""Most multiplications of a timed forward pass; larger data is cut to fewer positions."""
ROUNDS = 12
FEWEST_ROUNDS = 3
SECONDS = 0.3
"""Seconds after which no further call starts, including the first calls, which prepare kernels."""
STEADY = 1.25
"""Largest ratio of the two smallest times of a convolution; above, it was disturbed."""

Timer = Callable[[Callable[[], object]], float]


@dataclass(frozen=True)
class Choice:
    """A precision and the reason.

    Attributes:
        name: the precision.
        why: a line for people; empty if there was no choice.
    """

    name: PrecisionName
    why: str = ""


def choose_precision(
    config: ResolvedConfig,
    device: torch.device,
    *,
    as_before: bool = False,
    timer: Timer | None = None,
) -> Choice:
    """Return the precision of training for resolved settings.

    On CPUs that compute in bfloat16, ``auto`` times the convolutions of the network forward and
    backward in both, once: the choice is kept in the cache for this processor, number of threads,
    version of PyTorch and these settings of the network. If the machine is too busy, the
    choice is float32 and is not kept.

    Args:
        config: resolved settings.
        device: where the network runs.
        as_before: choose only by the processor, as earlier releases did, which recorded no choice.
        timer: returns the seconds of a call.
    """
    stated = config.training.precision
    if stated != "auto":
        return Choice(stated)
    if as_before or device.type != "cpu" or not computes_bfloat16():
        return Choice(Precision("auto", device).name)
    if config.model.network is not None:  # its results in bfloat16 are not tested
        return Choice("float32")
    facts = _facts(config)
    path = user_cache() / "precision" / f"{digest(json.dumps(facts))}.json"
    share = _read(path, facts)
    if share is None:
        share = _measured(_convolutions(config), timer or _seconds)
        if share is None:
            return Choice("float32", "float32: this machine is too busy to measure whether "
                                     "bf16 is faster; training.precision=bf16 uses it without "
                                     "a measurement")  # fmt: skip
        with suppress(OSError):  # it is measured again, which takes less than a second
            write_json(path, {"facts": facts, "share": share})
    name: PrecisionName = "bf16" if share * MARGIN < 1 else "float32"
    return Choice(name, f"{name}: convolutions of this network take {share:.2f} times as long in "
                  "bf16 as in float32 here")  # fmt: skip


@dataclass(frozen=True)
class _Convolution:
    """A layer on the meta device, the shape of its input, and its number in the network."""

    layer: nn.Module
    shape: tuple[int, ...]
    count: int


def _convolutions(config: ResolvedConfig) -> list[_Convolution]:
    """Return the convolutions with most of the arithmetic, largest first."""
    network, inputs = on_meta_device(config)
    layers: dict[str, tuple[nn.Module, tuple[int, ...]]] = {}
    counts: Counter[str] = Counter()
    products: Counter[str] = Counter()

    def note(layer: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        shape = (layer.in_channels, *inputs[0].shape[2:])
        key = f"{layer} {shape}"
        layers[key] = layer, shape
        counts[key] += 1
        positions = inputs[0] if layer.transposed else output
        products[key] += layer.weight.numel() * positions[0, 0].numel()

    kinds = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    for module in network.modules():
        if isinstance(module, MagnitudeConv):  # it takes the weight of its convolution alone
            module.register_forward_hook(lambda outer, *seen: note(outer.conv, *seen))
        # The linear maps of attention are convolutions of kernel 1 only by name.
        if isinstance(module, kinds) or (
            isinstance(module, nn.Conv1d) and hasattr(module, "circular")
        ):
            module.register_forward_hook(note)
    with torch.no_grad():
        network(**inputs)
    found = []
    for key, total in products.most_common(KINDS):
        layer, shape = layers[key]
        each = total / counts[key]
        channels, *size = shape
        while each > _PRODUCTS and max(size) > 8:  # one item is too large: fewer positions of it
            longest = size.index(max(size))
            each, size[longest] = each * (size[longest] // 2) / size[longest], size[longest] // 2
        items = min(_items(config), max(int(_PRODUCTS / each), 1))
        found.append(_Convolution(layer, (items, channels, *size), counts[key]))
    return found


def _items(config: ResolvedConfig) -> int:
    return config.training.microbatch or config.training.batch_size


def _facts(config: ResolvedConfig) -> dict[str, Any]:
    """Return all that the choice depends on, without building a network."""
    return {
        **_machine(),
        "task": config.task,
        "model": config.model.model_dump(mode="json"),
        "channels": [count_inputs(config), count_outputs(config)],
        "degradation": config.degradation.model_dump(mode="json"),
        "items": _items(config),
    }


def _machine() -> dict[str, Any]:
    """Return what a measurement depends on besides the network."""
    return {
        "processor": processor_name(),
        "capability": os.environ.get("ATEN_CPU_CAPABILITY", ""),
        "onednn": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }


def kept_shares() -> list[float]:
    """Return the measurements that are kept for this machine, version and number of threads.

    Each is the time of a network's convolutions in bfloat16 as a share of that in float32.
    """
    found = []
    for path in sorted((user_cache() / "precision").glob("*.json")):
        with suppress(OSError, ValueError, AttributeError):
            facts = json.loads(path.read_text(encoding="utf-8")).get("facts", {})
            share = _read(path, facts)
            if share is not None and facts.items() >= _machine().items():
                found.append(share)
    return found


def _read(path: Any, facts: dict[str, Any]) -> float | None:
    """Return the ratio of an earlier measurement; None if there is no valid one."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    share = kept.get("share") if isinstance(kept, dict) and kept.get("facts") == facts else None
    good = isinstance(share, float) and math.isfinite(share) and share > 0
    return share if good else None


def _measured(convolutions: list[_Convolution], timer: Timer) -> float | None:
    """Return the time of the convolutions in bfloat16 as a share of that in float32.

    Calls are timed in rounds, and the smallest time counts, since other programs only add to it.
    None if time was up before there were enough rounds, or if they disagree.
    """
    calls = [_both_ways(c, dtype) for c in convolutions
             for dtype in (torch.float32, torch.bfloat16)]  # fmt: skip
    rounds: list[list[float]] = []
    spent = 0.0
    try:
        while len(rounds) <= ROUNDS:
            times: list[float] = []
            for call in calls:
                if spent > SECONDS:
                    break
                times.append(timer(call))
                spent += times[-1]
            if len(times) < len(calls):
                break
            rounds.append(times)
    except RuntimeError:  # a kernel that this processor lacks
        return 99.0
    rounds = rounds[1:]  # the first one prepared kernels
    if len(rounds) < FEWEST_ROUNDS:
        return None
    least, second = list(zip(*map(sorted, zip(*rounds, strict=True)), strict=True))[:2]
    if any(b > STEADY * a for a, b in zip(least, second, strict=True)):
        return None
    weights = [c.count / c.shape[0] for c in convolutions]
    float32, bf16 = (sum(map(mul, weights, least[kind::2])) for kind in (0, 1))
    return bf16 / float32 if min(float32, bf16) > 0 else 99.0


def _both_ways(convolution: _Convolution, dtype: torch.dtype) -> Callable[[], object]:
    """Return a function that does a forward and a backward pass as training does."""
    layer: Any = copy.deepcopy(convolution.layer).to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    x = torch.randn(convolution.shape, generator=generator).to(dtype)
    if x.dim() == 4:  # as networks are placed on CPUs
        layer.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    if x.dim() == 3 and dtype == torch.bfloat16:
        x = x.mT.contiguous().mT
    x.requires_grad_()

    def both() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = layer(x)
        torch.autograd.grad(y, (x, *layer.parameters()), y.detach())

    return both


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
