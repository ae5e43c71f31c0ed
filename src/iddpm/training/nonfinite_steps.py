"""Skipped steps and their items: ``bad_steps.jsonl`` of a run directory."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from iddpm.runtime.atomic_files import write_text
from iddpm.runtime.errors import TrainingDiverged, warned
from iddpm.runtime.kept_directory import refuse_moved
from iddpm.training.step import StepResult

BAD_STEPS = "bad_steps.jsonl"
SHOWN = 16
"""Items that are named for each step."""

NameItems = Callable[[int, Sequence[int]], Sequence[tuple[int, str]]]
"""Called with a step, counted from 0, and rows of its batch: the items' indices and keys."""


class BadSteps:
    """Append skipped steps to the file; those after ``start_step`` are dropped.

    Args:
        directory: the run directory.
        start_step: steps taken before.
        name_items: returns the items of a step; None names none.
    """

    def __init__(
        self, directory: Path, start_step: int = 0, name_items: NameItems | None = None
    ) -> None:
        self.path = directory / BAD_STEPS
        self.name_items = name_items
        self.reported = False
        """Whether one has been reported."""
        if self.path.is_file():
            lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines if _step_of(line) <= start_step]
            if len(kept) < len(lines):
                with warned(f"{BAD_STEPS} still holds steps after {start_step}"):
                    write_text(self.path, "".join(kept))

    def note(self, step: int, result: StepResult, say: Callable[[str], None]) -> None:
        """Record a step, counted from 1; report the first one with ``say``."""
        rows = rows_not_finite(result)
        record: dict[str, Any] = {
            "step": step,
            "cause": cause_of(result),
            "loss": _number(float(result.loss.mean())),
            "gradient_norm": _number(result.gradient_norm),
            "bad_items": len(rows),
            "items": [],
        }
        rows = rows[:SHOWN]
        names = self.name_items(step - 1, rows) if self.name_items else [(None, None)] * len(rows)
        for row, (index, key) in zip(rows, names, strict=True):
            t, loss = int(result.t[row]), _number(float(result.loss[row]))
            record["items"].append({"index": index, "key": key, "t": t, "loss": loss})
        refuse_moved(self.path)
        with (
            warned(f"{BAD_STEPS} lacks step {step}"),
            self.path.open("a", encoding="utf-8") as file,
        ):
            file.write(json.dumps(record) + "\n")
        if not self.reported:
            what = describe(result, record["items"])
            say(f"step {step} was skipped: {what}; {self.path} lists all skipped steps")
        self.reported = True


def cause_of(result: StepResult) -> str:
    """Return the kind: ``loss`` or ``gradient`` not finite, or a ``spike``."""
    if result.spike:
        return "spike"
    return "gradient" if result.loss.isfinite().all() else "loss"


def rows_not_finite(result: StepResult) -> list[int]:
    """Return the rows of the batch whose own loss is not finite."""
    return (~result.loss.isfinite()).nonzero().flatten().tolist()


def describe(result: StepResult, items: Sequence[dict[str, Any]] = ()) -> str:
    """Return the kind in words, with the first of the items."""
    norm = result.gradient_norm
    if result.spike:
        return f"a spike, with loss {float(result.loss.mean()):g} and gradient norm {norm:g}"
    rows = rows_not_finite(result)
    if not rows:
        return f"its gradient is not finite (norm {norm:g}), and every loss is"
    named = ""
    if items and items[0]["key"] is not None:
        named = f", first of {items[0]['key']} at t={items[0]['t']}"
    return f"the loss of {len(rows)} of {len(result.loss)} items is not finite{named}"


def refuse_series(length: int, limit: int, step: int, result: StepResult) -> None:
    """Raise TrainingDiverged if as many steps in a row were skipped as the limit says."""
    if length >= limit:
        raise TrainingDiverged(
            f"{limit} steps in a row were skipped, up to step {step}, where "
            f"{describe(result)}: the last checkpoint is from before; {advice(result)}"
        )


def advice(result: StepResult) -> str:
    """Return what may help if steps stay not finite."""
    if 0 < len(rows_not_finite(result)) < len(result.loss):
        return (
            f"check the items in {BAD_STEPS}; if they are valid, resume with a lower "
            "training.learning_rate or training.precision=float32"
        )
    return (
        "resume with a lower training.learning_rate, a training.gradient_clip, or "
        "training.precision=float32"
    )


def _step_of(line: str) -> float:
    """Return the step of a line; infinity for one cut short by a crash or a full disk."""
    try:
        return int(json.loads(line)["step"]) if line.endswith("\n") else math.inf
    except ValueError:
        return math.inf


def _number(value: float) -> float | str:
    """Return a number for JSON, which has neither nan nor inf."""
    return value if math.isfinite(value) else str(value)
