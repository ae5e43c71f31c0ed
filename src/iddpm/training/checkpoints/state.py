"""The state of a training run, to and from a checkpoint."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.training.checkpoints.checkpoint import Checkpoint
from iddpm.training.checkpoints.weights import Weights
from iddpm.training.ema import EMA
from iddpm.training.parallel import own_part
from iddpm.training.precision import Precision
from iddpm.training.spikes import SpikeGuard
from iddpm.training.time_plan import TimePlan, read_plan
from iddpm.training.timesteps import TimestepSampler


@dataclass(eq=False)
class TrainState:
    """The whole state of a run.

    Data order, noise and dropout are functions of the step, so only its number is stored.

    >>> from iddpm import UniformTimesteps
    >>> network = nn.Linear(2, 2)
    >>> optimizer, emas = torch.optim.AdamW(network.parameters()), [EMA(network, 0.99)]
    >>> precision = Precision("float32", torch.device("cpu"))
    >>> state = TrainState(network, optimizer, emas, UniformTimesteps(1000), precision)
    >>> state.step, list(state.tensors())
    (0, ['network', 'optimizer', 'ema_0.99'])
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    emas: list[EMA]
    timesteps: TimestepSampler
    precision: Precision
    guard: SpikeGuard | None = None
    step: int = 0
    """Steps taken."""
    skipped: int = 0
    """Steps without an update: something was not finite, or a spike."""
    bad_in_a_row: int = 0
    plan: TimePlan | None = None
    """When a training with a time limit ends."""
    sealed: Mapping[str, Any] | None = None
    """What the run is trained with, for JSON: its settings and the data's fingerprint."""

    def length(self, stated: int) -> int:
        """Return the number of steps of the whole training: the planned or else the stated one."""
        plan = self.plan
        return stated if plan is None else plan.end or plan.most or stated

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Return the tensors of a checkpoint by file."""
        groups = {"network": self.network.state_dict(), "optimizer": self._optimizer_tensors()}
        for ema in self.emas:
            groups[ema.name] = ema.network.state_dict()
        if timesteps := self.timesteps.state():
            groups["timesteps"] = timesteps
        return groups

    def numbers(self) -> dict[str, Any]:
        """Return the rest of a checkpoint, for JSON."""
        guard = {} if self.guard is None else {"spikes": self.guard.state()}
        plan = {} if self.plan is None else {"plan": self.plan.numbers()}
        return (
            guard
            | plan
            | {
                "skipped": self.skipped,
                "bad_in_a_row": self.bad_in_a_row,
                "ema": {ema.name: ema.updates for ema in self.emas},
                "scaler": self.precision.scaler.state_dict(),
            }
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            ValueError: it belongs to another network or to other settings.
        """
        tensors = checkpoint.tensors
        load_weights(self.network, tensors.get("network", {}), checkpoint.path)
        for ema in self.emas:
            name = ema.name
            if name not in tensors:
                kept = ", ".join(group for group in tensors if group.startswith(("ema_", "power_")))
                raise ValueError(
                    f"checkpoint {checkpoint.path} has no average {name}; it has {kept}"
                )
            load_weights(ema.network, tensors[name], checkpoint.path)
            ema.updates = checkpoint.state["ema"][name]
        # Before the first step an optimizer holds nothing.
        self._load_optimizer(tensors.get("optimizer", {}), checkpoint)
        if "timesteps" in tensors:
            self.timesteps.load(dict(tensors["timesteps"]))
        if checkpoint.state["scaler"] and self.precision.scaler.is_enabled():
            self.precision.scaler.load_state_dict(checkpoint.state["scaler"])
        if self.guard is not None and "spikes" in checkpoint.state:
            self.guard.load(checkpoint.state["spikes"])
        self.step = checkpoint.step
        self.skipped = checkpoint.state["skipped"]
        self.plan = read_plan(checkpoint.state.get("plan"))
        self.bad_in_a_row = checkpoint.state["bad_in_a_row"]

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        tensors = {}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                tensors[f"{key}/{name}"] = value
        return tensors

    def _load_optimizer(self, tensors: Mapping[str, Tensor], checkpoint: Checkpoint) -> None:
        parameters = dict(self.network.named_parameters())
        self.optimizer.state.clear()
        for key in tensors:
            kind, _, name = key.partition("/")
            if name not in parameters:
                raise ValueError(f"checkpoint {checkpoint.path} optimizes {name}, unknown here")
            parameter = parameters[name]
            if kind == "step":  # a fused optimizer keeps it beside the weights, others on the CPU
                fused = self.optimizer.param_groups[0].get("fused")
                value = tensors[key].to(parameter.device if fused else "cpu")
            else:  # in the weight's own layout, as the kernels assume
                value = torch.empty_like(parameter, requires_grad=False)
                _fill(value, tensors, key)
            self.optimizer.state[parameter][kind] = value


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], source: object) -> None:
    """Load weights by name; ValueError if they are another network's.

    Args:
        network: receives them; a sharded one takes its own rows.
        weights: whole tensors by parameter name, read one by one.
        source: their origin, for the message.
    """
    own = network.state_dict()
    missing = [name for name in own if name not in weights]
    unknown = [name for name in weights if name not in own]
    if missing or unknown:
        what = f"lacks {missing[0]}" if missing else f"has {unknown[0]}, which the network lacks"
        count = len(missing) + len(unknown)
        raise ValueError(
            f"{source} does not hold the weights of this network: it {what} ({count} names differ)"
        )
    for name, value in own.items():
        shape = weights.shape(name) if isinstance(weights, Weights) else weights[name].shape
        if value.shape != shape:
            raise ValueError(
                f"{source} belongs to a network of another size: {name} has shape "
                f"{list(shape)} there and {list(value.shape)} here"
            )
    for name, value in own.items():
        _fill(value, weights, name)


def _fill(value: Tensor, weights: Mapping[str, Tensor], name: str) -> None:
    """Copy a tensor, or this process's part of it, from a file or from memory."""
    part, rows = own_part(value)
    if rows == slice(None):
        part.copy_(weights[name])
    elif isinstance(weights, Weights):
        part.copy_(weights.rows(name, rows.start, rows.stop))
    else:
        part.copy_(weights[name][rows])
