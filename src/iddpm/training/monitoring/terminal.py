"""Progress for people: a bar on a terminal, plain lines elsewhere."""

import math
import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from iddpm.runtime.console import open_console
from iddpm.training.monitoring.log_files import held_out_measure

MOVE_EVERY = 0.5
"""Seconds between two movements of the bar: drawing it ten times a second takes 1 % of a core."""
SILENCE = 20.0
"""Seconds without a bar after which a line says how fast the steps are; twice as long for each."""
_SHOWN = (
    ("loss", "loss {:.4f}"),
    ("held_out_loss", "{measure} {:.4f}"),
    ("gradient_norm", "grad {:.3f}"),
    ("items_per_second", "{:.0f} items/s"),
    ("data_wait_share", "waiting for data {:.0%}"),
    ("memory_mb", "{:.0f} MB"),
    ("skipped", "skipped {}"),
)
_WORTH_TELLING = {"data_wait_share": 0.05, "skipped": 1}
"""Below this a line leaves them out."""


class TerminalReporter:
    """Report a training run on the terminal.

    See :class:`~iddpm.training.loop_settings.Reporter`.
    """

    def __init__(self, console: Console | None = None, *, limit: float | None = None) -> None:
        self.console = console or open_console()
        self._progress: Progress | None = None
        self._started = time.monotonic()
        self._first = self._total = 0
        self._moved = 0.0
        self._said, self._patience = self._started, SILENCE
        self.limit = limit
        """Seconds after which training stops before its last step."""

    def start(self, step: int, total: int) -> None:
        """Show the bar, or give the one that is shown another end."""
        if self._total:
            self._total = total
            if self._progress is not None:
                self._progress.update(self._progress.task_ids[0], total=total)
            return
        self._started, self._first, self._total = time.monotonic(), step, total
        self._said, self._patience = self._started, SILENCE
        if self.console.is_terminal:
            self._progress = Progress(
                TextColumn("training"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                refresh_per_second=1 / MOVE_EVERY,
            )
            self._task = self._progress.add_task("training", total=total, completed=step)
            self._progress.start()

    def advance(self, step: int) -> None:
        """Move the bar; without one, end a long silence."""
        now = time.monotonic()
        if self._progress is None:
            if now - self._said >= self._patience and step < self._total:
                pace = (now - self._started) / max(step - self._first, 1)
                self.say(f"step {step}/{self._total}  {pace:.1f} s per step  {self._left(step)}")
                self._patience *= 2
        elif now - self._moved >= MOVE_EVERY or step == self._total:
            self._progress.update(self._task, completed=step)
            self._moved = now

    def record(self, record: dict[str, Any]) -> None:
        """Print a line."""
        step = record["step"]
        measure = held_out_measure(record).removesuffix(" loss")
        parts = [
            form.format(record[name], measure=measure)
            for name, form in _SHOWN
            if name in record and not record[name] < _WORTH_TELLING.get(name, -math.inf)
        ]
        quartiles = [record.get(f"loss_q{q}") for q in range(4)]
        if any(value is not None for value in quartiles):
            shown = " ".join("-" if value is None else f"{value:.3f}" for value in quartiles)
            parts.insert(1, f"by quarter {shown}")
        if self._progress is None and step < self._total:
            parts.append(self._left(step))
        self.say(f"step {step}/{self._total}  " + "  ".join(parts))

    def _left(self, step: int) -> str:
        spent = time.monotonic() - self._started
        left = spent / max(step - self._first, 1) * (self._total - step)
        soon = "" if self.limit is None else f", stops in {format_seconds(self.limit - spent)}"
        reached = self.limit is not None and not spent < self.limit < spent + left
        return f"{format_seconds(left)} left{'' if reached else soon}"

    def say(self, message: str) -> None:
        """Print a line above the bar."""
        self._said = time.monotonic()
        self.console.print(message, markup=False)

    def close(self) -> None:
        """Take the bar away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


class SilentReporter:
    """Report nothing."""

    def start(self, step: int, total: int) -> None:
        """Do nothing."""

    def advance(self, step: int) -> None:
        """Do nothing."""

    def record(self, record: dict[str, Any]) -> None:
        """Do nothing."""

    def say(self, message: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def format_seconds(seconds: float) -> str:
    """Return a duration as people say it: 42s, 3m10s, 2h05m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
