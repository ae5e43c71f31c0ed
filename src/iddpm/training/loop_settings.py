"""Settings and callbacks of the training loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Required, TypedDict

import torch
from torch import Tensor

from iddpm.training.monitoring.log_files import Tracker
from iddpm.training.nonfinite_steps import NameItems
from iddpm.training.time_plan import TimePlan


class Reporter(Protocol):
    """A receiver of the loop's progress, for people."""

    def start(self, step: int, total: int) -> None:
        """Training begins at ``step`` of ``total``; called again when ``total`` has changed."""

    def advance(self, step: int) -> None:
        """``step`` steps have been taken."""

    def record(self, record: dict[str, Any]) -> None:
        """A line was logged."""

    def say(self, message: str) -> None:
        """A message on a line of its own."""

    def close(self) -> None:
        """Training is over; always called."""


CONSTANT_SHARE = 0.1
"""Share of the steps before the inverse-square-root anneal begins."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """Length, learning rate and intervals of the loop; steps are counted from 1, 0 means never.

    >>> settings = LoopSettings(total_steps=1000, learning_rate=0.5, warmup_steps=4)
    >>> [settings.learning_rate_at(step) for step in (0, 1, 999)]
    [0.125, 0.25, 0.5]
    """

    total_steps: int
    learning_rate: float
    warmup_steps: int = 0
    anneal: bool = False
    inverse_sqrt: bool = False
    log_every: int = 50
    save_every: int = 1000
    save_seconds: float | None = None
    keep_checkpoints: int = 3
    snapshot_every: int = 0
    preview_every: int = 0
    validate_every: int = 0
    max_seconds: float | None = None
    max_bad_steps: int = 10

    def learning_rate_at(self, step: int, plan: TimePlan | None = None) -> float:
        """Return the rate of step ``step``, counted from 0: linear warm-up, and an anneal.

        A linear anneal falls as planned if there is a time limit. The other one goes as
        1 / sqrt(step) after a tenth of all steps (Karras et al. 2024, section 2.3).
        """
        rate = self.learning_rate
        if step < self.warmup_steps:
            rate *= (step + 1) / self.warmup_steps
        if self.anneal:
            rate *= 1 - step / self.total_steps if plan is None else plan.share_at(step)
        if self.inverse_sqrt:
            rate *= min(1.0, (CONSTANT_SHARE * self.total_steps / max(step, 1)) ** 0.5)
        return rate


def rate_ratios(optimizer: torch.optim.Optimizer, learning_rate: float) -> list[float]:
    """Return each parameter group's learning rate as a multiple of the rate that the loop sets.

    A group whose rate is ``learning_rate`` has 1; if there is none, the first above 0 has.
    """
    # Under the key of PyTorch's schedulers, since the loop changes "lr".
    rates = [float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups]
    base = learning_rate if learning_rate in rates else next(filter(None, rates), learning_rate)
    return [rate / base for rate in rates]


FedBatch = tuple[Tensor, dict[str, Any]]
"""Data in [-1, 1] on the device, and its conditioning."""


def preview_path(directory: Path, step: int) -> Path:
    """Return where the preview of a step is written."""
    return directory / "samples" / f"step_{step:08d}.png"


class Drawn(NamedTuple):
    """A preview: the picture, what was measured on it for the log, and a warning."""

    path: Path
    measured: Mapping[str, float] = {}
    warning: str | None = None


Preview = Callable[[int, Any], Drawn | Path | None]
"""Called with the step and the first average's network; returns the picture it wrote."""
Validate = Callable[[Any], float | Mapping[str, float] | None]
"""Called with the first average's network; returns the held-out loss, alone or as
``held_out_loss`` among other values for the log. The best checkpoint has the lowest."""


class LoopHooks(TypedDict, total=False):
    """The callbacks of the loop; all except the reporter are optional."""

    reporter: Required[Reporter]
    """Receives the progress."""
    preview: Preview | None
    """Called at its interval and at the end, but not after a signal."""
    validate: Validate | None
    """As ``preview``."""
    trackers: Sequence[Tracker]
    """Further receivers of the log's records; closed at the end."""
    flops: Callable[[], float] | None
    """Returns the floating-point operations of training per item."""
    name_items: NameItems | None
    """Returns the items of a step, for skipped steps."""
    shares: tuple[float, float]
    """The time of a validation and of a preview in training steps, until they are measured."""
    planned: Callable[[int], None] | None
    """Called on every rank with the number of steps that a time limit allows, when planned."""
