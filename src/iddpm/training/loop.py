"""The training loop: batches in, checkpoints and logs out."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from signal import Signals
from typing import Any, Protocol

from torch import Tensor

from iddpm.training.averages import drop_later_snapshots, write_snapshot
from iddpm.training.best import Best, find_best, point_to_best, was_measured
from iddpm.training.checkpoint import save_checkpoint
from iddpm.training.log import LogFiles
from iddpm.training.meter import Meter
from iddpm.training.signals import StopSignals
from iddpm.training.state import TrainState
from iddpm.training.step import StepResult, TrainStep


class Stop(Enum):
    """Why a loop ended."""

    FINISHED = "finished"
    TIME = "time is up"
    INTERRUPTED = "stopped by SIGINT"
    TERMINATED = "stopped by SIGTERM"

    @property
    def exit_status(self) -> int:
        """The status that a process ends with: 128 and the signal's number, as shells count."""
        numbers = {Stop.INTERRUPTED: Signals.SIGINT, Stop.TERMINATED: Signals.SIGTERM}
        return 128 + numbers[self] if self in numbers else 0


class TrainingDiverged(RuntimeError):  # noqa: N818 - it says what happened
    """The loss or the gradient was not finite for too many steps in a row."""


class Reporter(Protocol):
    """Where the loop tells a person how it goes."""

    def start(self, step: int, total: int) -> None:
        """Training begins at ``step`` of ``total``."""

    def advance(self, step: int) -> None:
        """``step`` steps have been taken."""

    def record(self, record: dict[str, Any]) -> None:
        """A line was logged."""

    def say(self, message: str) -> None:
        """Something worth a line of its own."""

    def close(self) -> None:
        """Training is over; called however it ends."""


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """When the loop does what; steps are counted from 1, 0 means never."""

    total_steps: int
    learning_rate: float
    warmup_steps: int = 0
    anneal: bool = False
    log_every: int = 50
    save_every: int = 1000
    save_seconds: float | None = None
    keep_checkpoints: int = 3
    snapshot_every: int = 0
    preview_every: int = 0
    validate_every: int = 0
    max_seconds: float | None = None
    max_bad_steps: int = 10

    def learning_rate_at(self, step: int) -> float:
        """Return the rate of step ``step``, counted from 0: linear warm-up, linear anneal."""
        rate = self.learning_rate
        if step < self.warmup_steps:
            rate *= (step + 1) / self.warmup_steps
        if self.anneal:
            rate *= 1 - step / self.total_steps
        return rate


Preview = Callable[[int, Any], Path | None]
"""Called with the step and the first average's network; returns the picture it wrote."""
Validate = Callable[[Any], float | None]
"""Called with the first average's network; returns the held-out loss."""


def train_loop(
    directory: Path,
    state: TrainState,
    step: TrainStep,
    batches: Iterable[tuple[Tensor, dict[str, Any]]],
    settings: LoopSettings,
    *,
    reporter: Reporter,
    preview: Preview | None = None,
    validate: Validate | None = None,
    tensorboard: bool = False,
) -> Stop:
    """Train from ``state.step`` to the last step, and save whatever happens.

    The checkpoint with the best held-out loss stays beside the newest.

    Args:
        directory: the run directory.
        state: what is learned; changed in place.
        step: the training step.
        batches: from ``state.step`` on, on the device: data in [-1, 1] and its conditioning.
        settings: when to log, save, preview, validate and stop.
        reporter: where a person looks.
        preview, validate: called at their intervals and at the end, not after a signal.
        tensorboard: write event files too.

    Returns:
        Why it ended.

    Raises:
        TrainingDiverged: not finite for ``max_bad_steps`` steps in a row; the newest checkpoint
            is from before.
    """
    log = LogFiles(directory, start_step=state.step, tensorboard=tensorboard)
    best = find_best(directory)
    point_to_best(directory, best)
    drop_later_snapshots(directory, state.step)
    meter = Meter(len(step.denoiser.diffusion.schedule))
    started = saved = waiting = time.monotonic()
    saved_step = state.step
    reason = Stop.FINISHED
    reporter.start(state.step, settings.total_steps)

    def save() -> None:
        nonlocal saved, saved_step
        if saved_step != state.step:
            save_checkpoint(
                directory,
                state.step,
                state.tensors(),
                state.numbers(),
                keep=settings.keep_checkpoints,
                spare=best.step,
            )
        saved, saved_step = time.monotonic(), state.step

    def due(every: int) -> bool:
        last = state.step == settings.total_steps or reason is not Stop.FINISHED
        return every > 0 and (state.step % every == 0 or last)

    def look(record: dict[str, Any]) -> None:
        """Measure the held-out loss and add it to the record; keep the checkpoint if it is best."""
        nonlocal best
        held_out = None if validate is None else validate(state.emas[0].network)
        if held_out is not None:
            record["held_out_loss"] = held_out
            if best.improved_by(held_out):
                save()
                best = Best(state.step, held_out)
                point_to_best(directory, best)

    try:
        if state.step and due(settings.validate_every) and not was_measured(directory, state.step):
            made_up: dict[str, Any] = {"step": state.step}  # a kill came after the checkpoint
            look(made_up)
            if "held_out_loss" in made_up:
                log.write(made_up)
        with StopSignals() as signals:
            for x0, conditioning in batches:
                arrived = time.monotonic()
                rate = settings.learning_rate_at(state.step)
                for group in state.optimizer.param_groups:
                    group["lr"] = rate
                result = step(x0, state.step, **conditioning)
                state.step += 1
                _count_bad(state, result, settings.max_bad_steps)
                meter.add(result, arrived - waiting)
                reporter.advance(state.step)

                now = time.monotonic()
                if signals.received is not None:
                    asked = signals.received
                    reason = Stop.INTERRUPTED if asked is Signals.SIGINT else Stop.TERMINATED
                    reporter.say(f"{asked.name}: saving; once more to leave at once")
                elif settings.max_seconds is not None and now - started >= settings.max_seconds:
                    reason = Stop.TIME
                if state.step >= settings.total_steps:
                    reason = Stop.FINISHED
                ending = state.step >= settings.total_steps or reason is not Stop.FINISHED
                every, done = settings.snapshot_every, state.step >= settings.total_steps
                if every and (state.step % every == 0 or done):
                    # Before the checkpoint: whoever goes on from that has every snapshot until it.
                    write_snapshot(directory, state.step, state.emas)
                overdue = settings.save_seconds is not None and now - saved >= settings.save_seconds
                if state.step % settings.save_every == 0 or overdue or ending:
                    save()  # first: whoever sent a signal may not wait for pictures
                leaving = reason.exit_status != 0
                if due(settings.log_every) or due(settings.validate_every):
                    record = {"step": state.step, "seconds": now - started, "learning_rate": rate}
                    record |= meter.read() | {"skipped": state.skipped}
                    if due(settings.validate_every) and not leaving:
                        look(record)
                    log.write(record)
                    reporter.record(record)
                if preview is not None and due(settings.preview_every) and not leaving:
                    path = preview(state.step, state.emas[0].network)
                    if path is not None:
                        reporter.say(f"samples: {path}")
                if ending:
                    break
                waiting = time.monotonic()
    finally:
        log.close()
        reporter.close()
    return reason


def _count_bad(state: TrainState, result: StepResult, limit: int) -> None:
    """Count a step that was not finite; raise when there were too many in a row."""
    state.skipped += result.skipped
    state.bad_in_a_row = state.bad_in_a_row + 1 if result.bad else 0
    if state.bad_in_a_row >= limit:
        loss, norm = float(result.loss.mean()), result.gradient_norm
        raise TrainingDiverged(
            f"the loss or its gradient was not finite for {limit} steps in a row, up to step "
            f"{state.step} (loss {loss:g}, gradient norm {norm:g}): the last checkpoint is from "
            "before; resume with a lower training.learning_rate, a training.gradient_clip, or "
            "training.precision=float32"
        )
