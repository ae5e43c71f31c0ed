"""Settings proposed from the data's shape, and made to fit the available memory.

From the shape alone follow width, levels, attention, strides and batch: the same on every machine.
If memory is short, settings get smaller in the order of their cost: first the items of a backward
pass (the same training in more microbatches), then the kept activations (the same, but slower),
then the network.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from iddpm.builders.memory_footprint import Footprint, footprint
from iddpm.config import Config, ResolvedConfig
from iddpm.networks.blocks import default_stride
from iddpm.training.available_memory import free_memory
from iddpm.training.precision import Precision

MOST_ITEMS = 64
"""Items of a batch of small data."""
_LEAST_ITEMS = 8
_POSITIONS = 64 * 64 * 64
"""Positions above which a batch has fewer items: those of 64 pictures of 64 x 64."""
_MULTIPLIERS = (
    (256, (1, 1, 2, 2, 4, 4)),
    (128, (1, 1, 2, 3, 4)),
    (64, (1, 2, 3, 4)),
    (32, (1, 2, 2, 2)),
    (12, (1, 2, 2)),
    (0, (1, 2)),
)
"""Smallest size and its width factors; the upper four are the published ones."""
_TOKENS = 1024
"""Most positions of volumes that attention is proposed for."""
_VOLUME_WIDTH = 32
_LEAST_WIDTH = 16
_GROUP_CHANNELS = 4
"""As in the published networks of 128 channels; groups of one lose the level of the data."""
_SHARE = 0.65
"""Share of the available memory to use: counts have errors of up to a third."""


def batch_for(size: Sequence[int], train_items: int) -> int:
    """Return the items of a batch of data of a spatial size, at most all of them."""
    fitting = max(_POSITIONS // math.prod(size), 1)
    items = min(MOST_ITEMS, max(_LEAST_ITEMS, 1 << (fitting.bit_length() - 1)))
    return min(items, max(train_items, 1))


def propose_network(model: dict[str, Any], stated: set[str]) -> None:
    """Fill in the unstated settings of a network, from ``size`` alone."""
    size = model["size"]
    largest, volumes = max(size), len(size) == 3
    if volumes and "model_channels" not in stated:
        model["model_channels"] = _VOLUME_WIDTH
    if model["channel_mult"] is None:
        if model["group_channels"] is None and model["layers"] == "group_norm":
            model["group_channels"] = _GROUP_CHANNELS
        model["channel_mult"] = next(mult for least, mult in _MULTIPLIERS if largest >= least)
        if volumes and model["stride"] is None and 4 * min(size) >= 3 * largest:
            model["stride"] = (2, 2, 2)  # as deep as wide; stated levels are not changed
    if model["attention_downsampling"] is None:
        stride = model["stride"] or default_stride(len(size))
        factors = [2**level for level in range(len(model["channel_mult"]))]
        left = {
            factor: [-(-n // (factor if s == 2 else 1)) for n, s in zip(size, stride, strict=True)]
            for factor in factors
        }
        near = [f for f in factors if 7 <= -(-largest // f) <= 16] or factors[-1:]
        model["attention_downsampling"] = tuple(
            f for f in near if math.prod(left[f]) <= _TOKENS or len(size) < 3
        )


@dataclass(frozen=True)
class Proposal:
    """Settings with their needed and the available memory.

    Attributes:
        config: resolved settings.
        changed: what was made smaller for the memory, in words; empty if nothing.
        needed, memory: bytes for training, and available bytes.
    """

    config: ResolvedConfig
    changed: tuple[str, ...]
    needed: float
    memory: float

    def __str__(self) -> str:
        """Return one line without a label."""
        model, training = self.config.model, self.config.training
        parts = f" (microbatch {training.microbatch})" if training.microbatch else ""
        kept = ", use_checkpoint" if model.use_checkpoint else ""
        width = f"model_channels {model.model_channels}, " if model.network is None else ""
        line = (
            f"{width}batch {training.batch_size}{parts}{kept}: about "
            f"{self.needed / 1e9:.2g} GB of the {self.memory / 1e9:.3g} GB "
            "available"
        )
        if self.changed:
            line += f"; to save memory {', '.join(self.changed)}, which -s overrides"
        return line


def fit(
    wanted: Config,
    resolved: ResolvedConfig,
    memory: float,
    *,
    number: int = 4,
    processes: int = 1,
    own: nn.Module | None = None,
) -> Proposal:
    """Reduce unstated settings until training takes at most two thirds of the memory.

    Args:
        wanted: the user's settings; stated ones stay.
        resolved: the same with what follows from the data.
        memory: bytes that this process can take.
        number: bytes of a number inside the network.
        processes: number of processes that share a batch.
        own: an own network, which is not changed.

    Raises:
        ValueError: nothing fits, with a message that says what would; or no network can be built.
    """
    room = _SHARE * memory
    batch = resolved.training.batch_size
    share = -(-batch // processes)
    fixed_piece = _stated(wanted, "training", "microbatch")
    at_most = min(resolved.training.microbatch or share, share)
    needed = math.inf
    for candidate in _candidates(wanted, resolved):
        try:
            takes = footprint(candidate, number, own)
        except ValueError:
            if candidate.model.model_channels == resolved.model.model_channels:
                raise
            continue  # such as heads that do not divide a smaller width
        items = at_most if fixed_piece else _most(takes.fixed, takes.item, room, at_most)
        needed = takes.training(items)
        if needed <= room:
            chosen = _filled(wanted, candidate, items if items < share else None, takes, room)
            return Proposal(chosen, _changes(resolved, chosen), needed, memory)
    stated = {"model_channels", "use_checkpoint"} <= wanted.model.model_fields_set
    if stated and fixed_piece:  # all settings are stated, so the user decides
        return Proposal(resolved, (), needed, memory)
    raise ValueError(_too_large(resolved, needed, memory))


def propose(
    wanted: Config,
    resolved: ResolvedConfig,
    device: torch.device,
    *,
    processes: int = 1,
    own: nn.Module | None = None,
) -> Proposal | None:
    """Return the proposal of :func:`fit` for the available memory of a device; None if unknown.

    Raises:
        ValueError: as :func:`fit`.
    """
    memory = free_memory(device)
    if memory is None:
        return None
    number = Precision(resolved.training.precision, device).dtype.itemsize
    return fit(wanted, resolved, memory, number=number, processes=processes, own=own)


def _candidates(wanted: Config, resolved: ResolvedConfig) -> Iterator[ResolvedConfig]:
    """Yield settings, the best first; each needs less memory than the one before."""
    if resolved.model.network is not None:
        yield resolved
        return
    widths = [resolved.model.model_channels]
    if not _stated(wanted, "model", "model_channels") and resolved.model.use_scale_shift_norm:
        while widths[-1] // 2 >= _LEAST_WIDTH:
            widths.append(widths[-1] // 2)
    once = _stated(wanted, "model", "use_checkpoint")
    for width in widths:
        for checkpoint in (resolved.model.use_checkpoint,) if once else (False, True):
            update = {"model_channels": width, "use_checkpoint": checkpoint}
            yield resolved.model_copy(update={"model": resolved.model.model_copy(update=update)})


def _most(fixed: float, each: float, room: float, at_most: int) -> int:
    """Return the number of items that fit: ``at_most`` or a power of two below, at least 1."""
    fitting = max(int((room - fixed) / each), 1)
    return at_most if fitting >= at_most else 1 << (fitting.bit_length() - 1)


def _filled(
    wanted: Config, candidate: ResolvedConfig, microbatch: int | None, takes: Footprint, room: float
) -> ResolvedConfig:
    """Return settings whose microbatch and sampling batch fit."""
    sections: dict[str, Any] = {}
    if not _stated(wanted, "training", "microbatch"):
        sections["training"] = candidate.training.model_copy(update={"microbatch": microbatch})
    if not _stated(wanted, "sampling", "batch_size"):
        drawn = _most(takes.fixed, takes.sample, room, candidate.sampling.batch_size)
        sections["sampling"] = candidate.sampling.model_copy(update={"batch_size": drawn})
    return candidate.model_copy(update=sections)


def _changes(before: ResolvedConfig, after: ResolvedConfig) -> tuple[str, ...]:
    named = (
        ("model", "model_channels"),
        ("model", "use_checkpoint"),
        ("training", "microbatch"),
        ("sampling", "batch_size"),
    )
    found = []
    for section, name in named:
        old, new = (getattr(getattr(config, section), name) for config in (before, after))
        if old != new:
            found.append(f"{section}.{name}={str(new).lower()}")
    return tuple(found)


def _stated(config: Config, section: str, name: str) -> bool:
    return name in getattr(config, section).model_fields_set


def _too_large(config: ResolvedConfig, needed: float, memory: float) -> str:
    size = config.model.size
    half = [max(n // 2, 1) for n in size]
    smaller = {
        1: f"shorter windows, such as data.window={half[0]}",
        2: f"smaller pictures, such as data.image_size={max(half)}",
        3: f"smaller windows, such as data.window={half}",
    }[len(size)]
    return (
        f"training on {' x '.join(map(str, (config.model.channels, *size)))} needs about "
        f"{needed / 1e9:.2g} GB with one item at a time and the smallest automatic "
        f"network, and {memory / 1e9:.2g} GB are available, of which {_SHARE:.0%} are "
        f"used: use {smaller}, or a device with more memory"
    )
