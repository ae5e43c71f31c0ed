"""The length of a training that has a time limit, planned from its measured pace.

The learning rate falls to 0 at the last step, which therefore has to be known long before the limit
is reached. It is planned once the pace is known, and again when the pace has changed. The plan is a
part of the checkpoint, so that a resumed training continues with it exactly.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

ENDLESS = 10**12
"""Last step of a training whose length is not planned yet."""
WINDOW, SHORTEST = 10.0, 0.02
"""A pace is taken over this many seconds, or over this share of the limit if that is less."""
FEWEST = 3
"""Steps that a pace is taken over, at least."""
UNTIL = 0.25
"""Share of the limit after which one step is enough."""
EARLY, LATE = 0.1, 0.03
"""Shares of the time left by which a training may end before and after its limit as planned."""
GRAIN = 0.005
"""Share of the limit below which nothing is planned anew."""
UNMEASURED = 0.05
"""Most of the limit that a validation or a preview is taken for before one is measured."""
NEWS = 0.1
"""Change of the number of steps that is worth a line."""


@dataclass(eq=False)
class TimePlan:
    """When a training with a time limit ends, and how the learning rate falls until then.

    Attributes:
        budget: the limit in seconds of training.
        most: the user's number of steps; None for any.
        spent: seconds of the limit that were used up.
        start, fraction: from this step on the learning rate falls, from this share of its full
            value.
        end: number of steps of the whole training; None until the pace is known.

    >>> plan = TimePlan(budget=60.0, start=10, fraction=0.5, end=110)
    >>> [plan.share_at(step) for step in (10, 60, 110)]
    [0.5, 0.25, 0.0]
    """

    budget: float
    most: int | None = None
    spent: float = 0.0
    start: int = 0
    fraction: float = 1.0
    end: int | None = None

    @property
    def last(self) -> int:
        """Number of steps of the whole training as far as it is known."""
        return self.end or self.most or ENDLESS

    def share_at(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0, as a share of its full value.

        Before there is a plan it stays, or falls to the user's number of steps.
        """
        last = self.end or self.most
        if last is None:
            return self.fraction
        return self.fraction * (1 - (step - self.start) / (last - self.start))

    def replan(self, step: int, end: int) -> None:
        """Let the training end elsewhere; the learning rate goes on from where it is.

        The user's number of steps, if it can be reached, has the learning rate that it has without
        a limit.
        """
        if end != self.last:
            self.fraction, self.start = self.share_at(step), step
        self.end = end

    def numbers(self) -> dict[str, Any]:
        """Return the plan for JSON, which holds floats exactly."""
        return asdict(self)


def plan_session(
    before: TimePlan | None, step: int, budget: float | None, most: int | None
) -> TimePlan | None:
    """Return the plan of a session: the one before while it holds, otherwise a new one.

    Args:
        before: the plan in the checkpoint.
        step: number of steps taken.
        budget: the limit of this session in seconds; the same limit goes on where it was.
        most: the user's number of steps for a training that begins; None for any.
    """
    if before is None:
        # A training that began without a plan keeps its length, and the limit cuts it in parts.
        return None if budget is None or step else TimePlan(budget, most)
    if budget is None:
        return before if before.end is not None else None
    finished = before.end is not None and step >= before.end
    used_up = before.spent >= before.budget
    if finished and before.most == before.end:
        return before
    if before.budget == budget and not (finished or used_up):
        return before
    share = before.share_at(step)
    if finished or (used_up and before.end):  # as if both limits had been planned as one
        share = budget / (budget + before.budget)
    return TimePlan(budget, before.most, start=step, fraction=share)


class Pace(NamedTuple):
    """What the clocks of all processes say after a step, the largest of each."""

    elapsed: float
    """Seconds since the session began."""
    stepping: float
    """The same without validation and previews."""
    validation: float
    """Seconds of the last validation; 0 for none yet."""
    preview: float
    """Seconds of the last preview; 0 for none yet."""


class Planner:
    """Plan the length of a session, and plan it anew when the pace changes.

    All processes give it the same numbers and therefore plan the same.

    Args:
        plan: changed in place.
        every: steps between validations and between previews; 0 for never.
        shares: time of a validation and of a preview in training steps, until they are measured.
    """

    def __init__(
        self, plan: TimePlan, every: tuple[int, int] = (0, 0), shares: tuple[float, float] = (0, 0)
    ) -> None:
        self.plan = plan
        self.every = every
        self.shares = shares
        self.seconds: float | None = None
        """Seconds per step."""
        self.told: int | None = plan.end
        """The number of steps that was last said."""
        self._spent = plan.spent
        self._mark: tuple[int, float] | None = None
        self._began = False

    def observe(self, step: int, pace: Pace) -> bool:
        """Take note of a step, and return whether the plan has changed."""
        plan = self.plan
        plan.spent = self._spent + pace.elapsed
        if self._mark is None or not self._began:  # the first step allocates and compiles
            self._began = self._mark is not None
            self._mark = (step, pace.stepping)
            return False
        steps, seconds = step - self._mark[0], pace.stepping - self._mark[1]
        enough = steps >= FEWEST and seconds >= min(WINDOW, SHORTEST * plan.budget)
        if not enough and not (self.seconds is None and plan.spent >= UNTIL * plan.budget):
            return False
        self._mark = (step, pace.stepping)
        latest = max(seconds / steps, 1e-9)
        self.seconds = latest if self.seconds is None else (self.seconds + latest) / 2
        left = plan.budget - plan.spent
        if left <= 0 or step >= plan.last:
            return False
        if plan.end is not None:
            drift = left - self._needed(step, plan.end, pace)
            allowed = EARLY * left if drift > 0 else LATE * left
            if abs(drift) <= max(allowed, GRAIN * plan.budget):
                return False
        end = self._fitting(step, left, pace)
        changed = end != plan.end
        plan.replan(step, end)
        return changed

    def sentence(self) -> str | None:
        """Return the plan in a line, or None if it is nearly what was said before."""
        end, seconds, told = self.plan.end, self.seconds, self.told
        if end is None or seconds is None or (told and abs(end - told) <= NEWS * told):
            return None
        self.told = end
        pace = f"{_short(seconds)} each"
        if end == self.plan.most:
            return (
                f"planned {end:,} steps as asked, {pace}, which take less than the "
                f"{_minutes(self.plan.budget)}: the learning rate falls until then"
            )
        asked = "" if self.plan.most is None else f" instead of the {self.plan.most:,} asked for"
        again = "" if told is None else " now, as the pace has changed"
        return (
            f"planned {end:,} steps{asked} in {_minutes(self.plan.budget)}{again}, {pace}: "
            "the learning rate falls until then"
        )

    def _needed(self, step: int, end: int, pace: Pace) -> float:
        """Return the seconds from a step to the end, what is measured and drawn included."""
        assert self.seconds is not None
        total = (end - step) * self.seconds
        measured = (pace.validation, pace.preview)
        for every, share, seconds in zip(self.every, self.shares, measured, strict=True):
            if every:  # at its multiples from this step on, and at the end
                guess = min(share * self.seconds, UNMEASURED * self.plan.budget)
                times = -(-end // every) - (step - 1) // every
                total += times * (seconds or guess)
        return total

    def _fitting(self, step: int, left: float, pace: Pace) -> int:
        """Return the number of steps of the training that just fits into the seconds left."""
        assert self.seconds is not None
        low = step + 1
        high = min(self.plan.most or ENDLESS, step + max(int(left / self.seconds), 1))
        while low < high:
            middle = (low + high + 1) // 2
            if self._needed(step, middle, pace) <= left:
                low = middle
            else:
                high = middle - 1
        return low


def read_plan(numbers: Mapping[str, Any] | None) -> TimePlan | None:
    """Return the plan of a checkpoint, if it has one."""
    return None if numbers is None else TimePlan(**numbers)


def _short(seconds: float) -> str:
    """Return seconds with two digits, such as 0.67 s."""
    digits = max(0, 1 - math.floor(math.log10(seconds)))
    return f"{seconds:.{digits}f} s"


def _minutes(seconds: float) -> str:
    """Return a limit in the unit that people say it in, such as 15 min."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.4g} {unit}"
    return f"{seconds:.3g} s"
