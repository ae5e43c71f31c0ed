"""The training loop: batches in, checkpoints and logs out."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from signal import Signals
from typing import Any, Unpack

from torch import Tensor

from iddpm.runtime.errors import OutOfMemory, RunFailed, warned
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.training.checkpoints.best import Best, find_best, point_to_best, was_measured
from iddpm.training.checkpoints.ema_snapshots import (
    drop_later_snapshots,
    warn_of_missing,
    write_snapshot,
)
from iddpm.training.checkpoints.saver import Saver
from iddpm.training.checkpoints.state import TrainState
from iddpm.training.loop_settings import (
    Drawn,
    FedBatch,
    LoopHooks,
    LoopSettings,
    preview_path,
    rate_ratios,
)
from iddpm.training.monitoring.log_files import LogFiles
from iddpm.training.monitoring.records import Meter, merged
from iddpm.training.monitoring.throughput import Effort
from iddpm.training.nonfinite_steps import BadSteps, refuse_series
from iddpm.training.session_clock import SessionClock
from iddpm.training.step import StepResult, TrainStep
from iddpm.training.stop import Stop, note_end
from iddpm.training.stop_signals import StopSignals
from iddpm.training.time_plan import Pace


def train_loop(
    directory: Path,
    state: TrainState,
    step: TrainStep,
    batches: Iterable[FedBatch],
    settings: LoopSettings,
    *,
    ranks: Ranks = ALONE,
    **hooks: Unpack[LoopHooks],
) -> Stop:
    """Train from ``state.step`` to the last step, and save in any case.

    The checkpoint with the best held-out loss is kept in addition to the newest.

    Args:
        directory: the run directory.
        state: the state of the training; changed in place.
        step: the training step.
        batches: from ``state.step`` on, on the device: data in [-1, 1] and its conditioning.
        settings: intervals of logging, saving, previews and validation, and the end.
        ranks: the processes that train together; all run this loop and the first one writes.
        hooks: ``reporter``, and others of :class:`~iddpm.training.loop_settings.LoopHooks`.

    Returns:
        Why it ended.

    Raises:
        TrainingDiverged: not finite for ``max_bad_steps`` steps in a row; the newest checkpoint
            is from before.
        OutOfMemory: a step takes more memory than is available; one process saves first.
        RankLost: another process ended or did not answer.
        NotSaved: the last checkpoint could not be written.
        ValueError, OSError, RunFailed: errors of the batches; the state is saved first.
    """
    return _Loop(directory, state, step, settings, ranks, hooks).session(iter(batches))


class _Loop:
    """One session of training, in order of execution."""

    saver: Saver
    log: LogFiles | None = None

    def __init__(
        self,
        directory: Path,
        state: TrainState,
        step: TrainStep,
        settings: LoopSettings,
        ranks: Ranks,
        hooks: LoopHooks,
    ) -> None:
        self.directory = directory
        self.state = state
        self.step = step
        self.settings = settings
        self.ranks = ranks
        self.hooks = hooks
        self.reporter = hooks["reporter"]
        name_items = hooks.get("name_items")
        self.bad = BadSteps(directory, state.step, name_items) if ranks.first else None
        self.effort = Effort(state.precision, hooks.get("flops"))
        self.ratios = rate_ratios(state.optimizer, settings.learning_rate)
        self.meter = Meter(len(step.denoiser.diffusion.schedule))
        self.saved_step = state.step
        self.stop: Stop | None = None
        """The reason to stop after this step, if any."""
        self.signaled: int | None = None
        """The rank that was sent a signal; None when alone."""
        self.owed = False
        """Whether a checkpoint is due."""
        self.better: Best | None = None
        """A new best whose checkpoint is still to be kept."""
        self.trouble: Exception | None = None
        """The error that prevented the next batch on this rank."""
        self.troubled = False
        """Whether some rank has trouble."""
        self.clock = SessionClock(state.plan, settings, hooks)
        self.saved = self.clock.started

    def session(self, batches: Iterator[FedBatch]) -> Stop:
        """Train with the log open and checkpoints written beside; note how it ended."""
        directory, state, first = self.directory, self.state, self.ranks.first
        if first:
            trackers = self.hooks.get("trackers", ())
            self.log = LogFiles(directory, start_step=state.step, trackers=trackers)
        best = self.ranks.gathered(find_best(directory) if first else None)[0]
        keep, sealed = self.settings.keep_checkpoints, state.sealed
        try:
            with Saver(
                directory, keep=keep, step=state.step, best=best, ranks=self.ranks, sealed=sealed
            ) as self.saver:
                stop = self.run(batches)
        finally:
            if self.log is not None:
                self.log.close()
            self.reporter.close()
        if first:
            note_end(directory, stop, state.step, self.signaled)
        return stop

    def run(self, batches: Iterator[FedBatch]) -> Stop:
        """Take steps until there is a reason to stop."""
        self.clock.begin(self.state.step)
        self._catch_up()
        with StopSignals() as signals:
            batch = self._fetch(batches)
            self._raise_trouble()
            while batch is not None and self.stop is None:
                self._learn(*batch)
                # Before deciding: ranks agree at one place whether all can go on.
                batch = None if signals.received else self._fetch(batches)
                self._decide(signals.received)
                self._look()  # before the checkpoint, so that a resumed run has every record
                self._keep()
                if self.troubled:
                    self._raise_trouble()
                self._draw()
            self.saver.finish()
        return self.stop or Stop.FINISHED

    def _catch_up(self) -> None:
        """Remove records after the checkpoint; measure a held-out loss that a kill prevented."""
        step, known, drawn, best = self.state.step, False, False, self.saver.best()
        if self.ranks.first:
            drawn = preview_path(self.directory, step).is_file()
            point_to_best(self.directory, best)
            warn_of_missing(self.directory)
            drop_later_snapshots(self.directory, step)
            self.saver.settle()
            known = was_measured(self.directory, step)
        if step and self._due(self.settings.validate_every) and not self.ranks.gathered(known)[0]:
            measured = self._held_out()
            if measured:
                self._log({"step": step, **measured})
                self._prefer()
        if step and not self.ranks.gathered(drawn)[0]:
            self._draw()

    def _fetch(self, batches: Iterator[FedBatch]) -> FedBatch | None:
        """Return the next batch, or None at the end or after an error."""
        requested = time.monotonic()
        try:
            return next(batches, None)
        except (ValueError, OSError, RunFailed) as error:
            self.trouble = error
            return None
        finally:
            self.meter.wait(time.monotonic() - requested)

    def _raise_trouble(self) -> None:
        """Raise the error of a rank on all ranks, if there is one."""
        with self.ranks.together():
            if self.trouble is not None:
                raise self.trouble

    def _learn(self, x0: Tensor, conditioning: dict[str, Any]) -> None:
        """Take a step and count it."""
        state = self.state
        self.rate = self.settings.learning_rate_at(state.step, state.plan)
        for group, ratio in zip(state.optimizer.param_groups, self.ratios, strict=True):
            group["lr"] = self.rate * ratio
        size = self.step.microbatch
        try:
            result = self.step(x0, state.step, **conditioning)
        except OutOfMemory:
            if self.ranks.count == 1:  # the others are in the middle of the step
                self._save()
            raise
        state.step += 1
        if self.step.microbatch != size:
            self.reporter.say(
                f"step {state.step} ran out of memory: training.microbatch is now "
                f"{self.step.microbatch}, until this process ends"
            )
        self._count_bad(result)
        self.meter.add(result)
        self.reporter.advance(state.step)

    def _count_bad(self, result: StepResult) -> None:
        """Count and record a skipped step; raise if too many in a row were not finite."""
        state = self.state
        state.skipped += result.skipped
        state.bad_in_a_row = state.bad_in_a_row + 1 if result.bad else 0
        if self.bad is not None and (result.bad or result.spike):
            self.bad.note(state.step, result, self.reporter.say)
        refuse_series(state.bad_in_a_row, self.settings.max_bad_steps, state.step, result)

    def _decide(self, received: Signals | None) -> None:
        """Agree on what each process observes separately: signals, its clock and its data."""
        now, interval = time.monotonic(), self.settings.save_seconds
        signal, signaled, overdue, troubled, *clocks = self.ranks.largest(
            [
                received or 0,
                -1 if received is None else self.ranks.rank,
                interval is not None and now - self.saved >= interval,
                self.trouble is not None,
                *self.clock.read(now),
            ]
        )
        late = self.clock.is_up(self.state.step, Pace(*clocks))
        self.owed |= bool(overdue)
        self.troubled = bool(troubled)
        if signal:
            name, by = Signals(int(signal)).name, ""
            self.stop = Stop(f"stopped by {name}")
            if self.ranks.count > 1:
                self.signaled = int(signaled)
                by = f" on rank {self.signaled}"
            self.reporter.say(f"{name}{by}: saving; send it again to exit at once")
        elif late:
            self.stop = Stop.TIME
            self.reporter.say("time is up: measuring, saving and drawing what is due at the end")
        if self.state.step >= self.clock.last_step:
            self.stop = Stop.FINISHED

    def _due(self, every: int) -> bool:
        """Return whether something with this interval, and at the end, is due."""
        step = self.state.step
        last = step == self.clock.last_step or self.stop is not None
        return every > 0 and (step % every == 0 or last)

    def _keep(self) -> None:
        """Write the snapshot and the checkpoint that are due."""
        step, every = self.state.step, self.settings.snapshot_every
        if every and (step % every == 0 or self.stop is Stop.FINISHED):
            # Before the checkpoint, so that a resumed run has every snapshot.
            with warned(f"the averages of step {step} are missing from the snapshots"):
                write_snapshot(self.directory, step, self.state.emas, self.ranks)
        self.owed |= self._due(self.settings.save_every)
        if self.troubled or self.stop is not None or (self.owed and not self.state.bad_in_a_row):
            # Not during a series of bad steps: resuming then repeats all of the series.
            self._save()
        self._prefer()

    def _save(self) -> None:
        """Start writing a checkpoint of this step, unless that was done."""
        if self.saved_step != self.state.step:
            self.saver.save(
                self.state.step,
                self.state.tensors(),
                self.state.numbers(),
                last=self.stop is not None,
            )
        self.owed = False
        self.saved, self.saved_step = time.monotonic(), self.state.step

    def _prefer(self) -> None:
        """Keep the checkpoint of this step if it is the best."""
        if self.better is not None:
            self._save()
            self.saver.prefer(self.better)
            self.better = None

    def _leaving(self) -> bool:
        """Return whether there is only time to log and to save."""
        return self.troubled or (self.stop is not None and self.stop.exit_status != 0)

    def _look(self) -> None:
        """Log the records that are due, and the held-out loss."""
        measuring = self._due(self.settings.validate_every)
        if measuring or self.clock.planned or self._due(self.settings.log_every):
            record = self._measured()
            if measuring and not self._leaving():
                record |= self._held_out()
            self._log(record)
            self.reporter.record(record)

    def _draw(self) -> None:
        """Draw samples when they are due."""
        step, due = self.state.step, self._due(self.settings.preview_every)
        preview = self.hooks.get("preview")
        if preview is not None and due and not self._leaving():
            with self.clock.aside("preview"), warned(f"there is no picture of step {step}"):
                drawn = preview(step, self.state.emas[0].network)
                drawn = Drawn(drawn) if isinstance(drawn, Path) else drawn
                if drawn is not None:
                    self._log({"step": step, **drawn.measured} if drawn.measured else {})
                    for line in filter(None, (f"samples: {drawn.path}", drawn.warning)):
                        self.reporter.say(line)

    def _measured(self) -> dict[str, Any]:
        """Return a record of the steps since the last one, the same on every rank."""
        own = self.meter.read()
        own |= self.effort.read(own["items_per_second"] / self.ranks.count)
        record = {
            "step": self.state.step,
            "time": round(time.time(), 1),
            "seconds": time.monotonic() - self.clock.started,
            "learning_rate": self.rate,
            **merged(self.ranks.gathered(own)),
            "skipped": self.state.skipped,
        }
        return record | ({"planned_steps": self.clock.last_step} if self.clock.planned else {})

    def _held_out(self) -> dict[str, Any]:
        """Return the held-out loss as part of a record, and note whether it is the best."""
        validate = self.hooks.get("validate")
        with self.clock.aside("validation"):
            found = None if validate is None else validate(self.state.emas[0].network)
        if found is None:
            return {}
        measured = {"held_out_loss": found} if isinstance(found, float) else dict(found)
        loss = measured["held_out_loss"]
        if self.saver.best().improved_by(loss):
            self.better = Best(self.state.step, loss)
        return measured

    def _log(self, record: dict[str, Any]) -> None:
        if self.log is not None and record:
            self.log.write(record)
