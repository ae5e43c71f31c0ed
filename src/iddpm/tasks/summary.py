"""How far a run is and how it does, read from its files alone and without torch."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from iddpm.config import ResolvedConfig
from iddpm.config.run_config import WEIGHTS
from iddpm.runs.sealed_settings import read_run_config
from iddpm.runtime.directory_lock import LOCK, holder
from iddpm.training.checkpoints.checkpoint_files import (
    damage_of,
    list_checkpoints,
    missing_snapshots,
    snapshot_names,
)
from iddpm.training.monitoring.log_files import held_out_measure, read_log
from iddpm.training.stop import read_exit

RECENT = 20
"""Records from which the speed is taken."""
WINDOW = 10
"""Records, at most, over which losses are averaged."""
LATEST = (
    "items_per_second",
    "compute_share",
    "data_wait_share",
    "memory_mb",
    "skipped",
)
"""What is shown as the newest record has it."""

Records = Sequence[dict[str, Any]]


def summarize(run: Path, now: float | None = None) -> dict[str, Any]:
    """Return what is known of a run as JSON can hold it; what is not known is left out.

    Args:
        run: the run directory.
        now: seconds since 1970, by default the clock's.

    Raises:
        ValueError, FileNotFoundError: it is no run directory.
    """
    now = time.time() if now is None else now
    config = read_run_config(run)
    records = read_log(run)
    return describe_progress(run, config, records, now) | describe_files(run, records, now)


def describe_progress(
    run: Path, config: ResolvedConfig, records: Records, now: float
) -> dict[str, Any]:
    """Return how far a run is and how it does; the part of :func:`summarize` that changes often.

    Args:
        run: the run directory.
        config: its settings.
        records: the newest of its log, some 50, and those with a held-out loss.
        now: seconds since 1970.
    """
    steps = config.training.steps
    facts: dict[str, Any] = {"run": str(run), "steps": steps, "step": 0}
    copies = [record for record in records if "near_copies" in record]  # of previews alone
    records = [record for record in records if "near_copies" not in record]
    if records:
        facts |= _newest(records[-1], now)
        facts |= _losses(records)
    if copies:
        names = ("step", "near_copies", "near_copies_held_out", "near_copies_limit")
        facts["previews"] = {name: copies[-1][name] for name in names if name in copies[-1]}
    if config.imported_from is not None:
        facts["imported_from"] = config.imported_from
    facts |= _state(run, facts)
    if facts["state"] == "running" and records:
        facts |= _ahead(records, steps, config.training.batch_size, now)
    return facts


def _newest(record: dict[str, Any], now: float) -> dict[str, Any]:
    facts = {"step": record["step"]} | {name: record[name] for name in LATEST if name in record}
    if "time" in record:
        facts["record_age"] = max(0.0, now - record["time"])
    if "ranks" in record:
        facts["ranks"] = len(next(iter(record["ranks"].values())))
        facts["by_rank"] = record["ranks"]
    return facts


def _losses(records: Records) -> dict[str, Any]:
    """Return the mean loss over the last records and over as many before, with their steps."""
    measured = [record for record in records if "loss" in record]
    width = min(WINDOW, len(measured) // 2) or 1
    facts: dict[str, Any] = {}
    for name, part in (("loss", measured[-width:]), ("loss_before", measured[-2 * width : -width])):
        if part:
            mean = sum(record["loss"] for record in part) / len(part)
            facts[name] = {"mean": mean, "from": part[0]["step"], "to": part[-1]["step"]}
    held_out = [record for record in records if "held_out_loss" in record]
    if held_out:
        facts["held_out_loss"] = held_out[-1]["held_out_loss"]
        facts["held_out_measure"] = held_out_measure(held_out[-1])
    return facts


def _state(run: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return whether it runs, by whom, or how it ended."""
    held_by = holder(run)
    if held_by is not None:
        return {"state": "running", "held_by": held_by}
    if said := read_exit(run):
        return {"state": "ended", "exit": said}
    if "imported_from" in facts and not facts["step"]:
        return {"state": "imported"}
    if facts["step"] >= facts["steps"]:
        return {"state": "ended"}
    return {"state": "gone" if (run / LOCK).exists() else "not started"}


def _ahead(records: Records, steps: int, batch_size: int, now: float) -> dict[str, Any]:
    """Return how long the rest will take, as the last records went, and whether it looks stuck."""
    session = [records[-1]]
    for record in reversed(records[-RECENT:-1]):
        # The clock of a record starts anew in every session.
        if not record.get("seconds", 0.0) < session[-1].get("seconds", 0.0):
            break
        session.append(record)
    newest, oldest = session[0], session[-1]
    taken, spent = newest["step"] - oldest["step"], 0.0
    if taken:
        spent = newest["seconds"] - oldest["seconds"]
    elif newest.get("items_per_second"):
        taken, spent = 1, batch_size / newest["items_per_second"]
    if not taken:
        return {}
    age = max(0.0, now - newest.get("time", now))
    facts = {"seconds_left": max(0.0, (steps - newest["step"]) * spent / taken - age)}
    if len(session) > 1:
        facts["seconds_between_records"] = spent / (len(session) - 1)
    return facts


def describe_files(run: Path, records: Records, now: float) -> dict[str, Any]:
    """Return what there is to go on from and to look at; arguments as above."""
    facts: dict[str, Any] = {}
    checkpoints = list_checkpoints(run)
    facts["checkpoints"] = [path.name for path in checkpoints]
    if damaged := {path.name: why for path in checkpoints if (why := damage_of(path))}:
        facts["damaged"] = damaged
    if checkpoints:
        facts["checkpoint_age"] = max(0.0, now - checkpoints[-1].stat().st_mtime)
    if (run / "best").is_file():
        name = (run / "best").read_text(encoding="utf-8", errors="replace").strip()[:200]
        facts["best"] = {"checkpoint": name}
        for record in records:
            if name == f"step_{record['step']:08d}" and "held_out_loss" in record:
                facts["best"] |= {
                    "held_out_loss": record["held_out_loss"],
                    "held_out_measure": held_out_measure(record),
                }
    snapshots = snapshot_names(run)
    if missing := missing_snapshots(run):
        facts["missing_snapshots"] = missing
    if snapshots:
        facts["snapshots"] = {"count": len(snapshots), "last": snapshots[-1]}
    if (run / WEIGHTS).is_file():
        facts["weights"] = str(run / WEIGHTS)
    pictures = sorted((run / "samples").rglob("*.png"), key=lambda path: path.stat().st_mtime)
    if pictures:
        facts["picture"] = str(pictures[-1])
    return facts
