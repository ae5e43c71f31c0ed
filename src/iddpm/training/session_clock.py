"""The time of a session of training: what of it was steps, and whether it is up."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from iddpm.training.loop_settings import LoopHooks, LoopSettings
from iddpm.training.time_plan import Pace, Planner, TimePlan


class SessionClock:
    """Measure a session from its creation on, and plan its length if it has a time limit.

    Args:
        plan: of the training; changed in place.
        settings: the limit, and the intervals of validation and previews.
        hooks: those of the loop, to which a new plan is told.
    """

    def __init__(self, plan: TimePlan | None, settings: LoopSettings, hooks: LoopHooks) -> None:
        self.started = time.monotonic()
        self.plan = plan
        self.limit = settings.max_seconds
        self.hooks = hooks
        self.total = settings.total_steps
        self.planned = False
        """Whether the length was planned after the last step."""
        self._aside = 0.0
        self._last = {"validation": 0.0, "preview": 0.0}
        self._planner: Planner | None = None
        if plan is not None and plan.budget == self.limit:
            every = (settings.validate_every, settings.preview_every)
            self._planner = Planner(plan, every, hooks.get("shares", (0.0, 0.0)))

    @property
    def last_step(self) -> int:
        """Number of steps of the whole training, as far as it is known."""
        return self.total if self.plan is None else self.plan.last

    def begin(self, step: int) -> None:
        """Tell the reporter where training begins and ends."""
        known = self.plan is not None and self.plan.end is not None
        self.hooks["reporter"].start(step, self.last_step if known else self.total)

    @contextmanager
    def aside(self, what: str) -> Iterator[None]:
        """Measure a ``validation`` or a ``preview``."""
        began = time.monotonic()
        yield
        self._last[what] = time.monotonic() - began
        self._aside += self._last[what]

    def read(self, now: float) -> Pace:
        """Return what this process has measured at a time of the clock."""
        elapsed = now - self.started
        return Pace(elapsed, elapsed - self._aside, **self._last)

    def is_up(self, step: int, pace: Pace) -> bool:
        """Plan the length after a step, all ranks alike, and return whether the time is up."""
        planner, spent = self._planner, pace.elapsed
        if planner is not None:
            self.planned = planner.observe(step, pace)
            spent = planner.plan.spent
            if self.planned:
                self.begin(step)
                if sentence := planner.sentence():
                    self.hooks["reporter"].say(sentence)
                if planned := self.hooks.get("planned"):
                    planned(self.last_step)
        return self.limit is not None and spent >= self.limit
