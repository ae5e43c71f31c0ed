"""Training for a number of minutes by the clock, and the time that it took."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from iddpm.runs.layout import CONFIG, read_run_config
from iddpm.runs.run import Run
from iddpm.tasks.train import train_until_stop
from iddpm.tasks.training_setup import TrainRequest
from iddpm.training.checkpoints.checkpoint_files import list_checkpoints, step_of
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.stop import Stop, read_exit

STEPS_ALONE = (
    "training.validate_every=0",
    "training.preview_every=0",
    "training.save_every=1000000",
    "training.log_every=20",
)
"""Nothing but steps is to take time."""
NEXT_SESSION = 2.0
"""Seconds between two sessions, at the least: a process starts and opens data between them."""


def train_for(
    minutes: float,
    data: Path | str,
    out: Path,
    settings: Sequence[str] = (),
    base: Mapping[str, Any] | None = None,
) -> Run:
    """Train for some minutes, or go on with what an interruption left, and return the run.

    Args:
        minutes: of training; the learning rate falls until then.
        data: what to train on.
        out: the run directory.
        settings: assignments on top of the base.
        base: nested settings.

    Raises:
        SystemExit: a signal stopped it; run it again to go on.
    """
    going_on = (out / CONFIG).is_file()
    seconds = _left(out, 60 * minutes) if going_on else 60 * minutes
    if seconds > 0:
        limit = f"training.max_time={seconds:g}"
        _, reason = train_until_stop(
            TrainRequest(
                None if going_on else data,
                base=None if going_on else dict(base or {}),
                settings=(limit,) if going_on else (*STEPS_ALONE, limit, *settings),
                out=out,
                resume=going_on,
            )
        )
        if reason.exit_status:
            raise SystemExit(reason.exit_status)
    return Run(out)


def _left(out: Path, seconds: float) -> float:
    """Return the time limit with which a training goes on; 0 for one that has ended.

    A training whose learning rate falls has planned its length and continues with the same limit.
    """
    if read_exit(out).get("reason") in (Stop.FINISHED.value, Stop.TIME.value):
        return 0.0
    if read_run_config(out).training.anneal == "linear":
        return seconds
    saved = max(map(step_of, list_checkpoints(out)), default=0)
    return seconds - 60 * minutes_until(read_log(out), saved)


def minutes_until(log: Sequence[Mapping[str, Any]], step: int) -> float:
    """Return the minutes of training until a step, over all sessions of a log.

    Each session counts from its own start; between two records the pace is even.
    """
    before = last = 0.0
    last_step, began = 0, None
    for record in log:
        if "seconds" not in record:
            continue
        start = record["time"] - record["seconds"]
        if began is not None and start - began > NEXT_SESSION:
            before, last = before + last, 0.0
        began = start
        if record["step"] >= step:
            share = (step - last_step) / max(record["step"] - last_step, 1)
            return (before + last + share * (record["seconds"] - last)) / 60
        last_step, last = record["step"], record["seconds"]
    return (before + last) / 60
