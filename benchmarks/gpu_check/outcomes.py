"""What the sections of the check find, and the report of it."""

import json
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import torch

Facts = Mapping[str, float | str]
RESERVE = 5.0
"""Seconds that must be left for a section to start."""


class Skipped(Exception):  # noqa: N818 - it says what happened
    """A section has no meaning here; with the reason."""


@dataclass(frozen=True)
class Machine:
    """Where the check runs.

    Attributes:
        device: what is checked.
        short: run the smallest case of each section.
        folder: for runs, removed at the end.
        until: the time, by :func:`time.monotonic`, at which the check must be over.
    """

    device: torch.device
    short: bool
    folder: Path
    until: float

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        return self.until - time.monotonic()

    def wait(self) -> None:
        """Wait until the device has done what it was given."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def restart_memory(self) -> None:
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_memory(self) -> Facts:
        """Return the peak since :meth:`restart_memory`, where it is counted."""
        if not self.gpu:
            return {}
        return {"peak memory, GB": torch.cuda.max_memory_allocated(self.device) / 1e9}


Section = Callable[[Machine], Facts]


@dataclass(frozen=True)
class Outcome:
    """How a section ended, and what it measured."""

    name: str
    state: Literal["passed", "failed", "skipped"]
    seconds: float
    facts: Facts
    why: str = ""


def perform(name: str, section: Section, machine: Machine) -> Outcome:
    """Run a section; what it raises becomes a part of the report."""
    if machine.seconds_left < RESERVE:
        return Outcome(name, "skipped", 0.0, {}, "no time was left")
    start = time.monotonic()
    try:
        facts = section(machine)
    except Skipped as reason:
        return Outcome(name, "skipped", time.monotonic() - start, {}, str(reason))
    except Exception as error:  # the other sections still tell something
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = str(error).strip().splitlines() or [""]
        why = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {text[0]}"
        return Outcome(name, "failed", time.monotonic() - start, {}, why)
    finally:
        machine.restart_memory()
    return Outcome(name, "passed", time.monotonic() - start, facts)


def markdown(outcomes: list[Outcome], title: str) -> str:
    """Return the report for people."""
    counts = [f"{sum(o.state == s for o in outcomes)} {s}" for s in ("passed", "failed", "skipped")]
    lines = [f"# {title}", "", ", ".join(counts)]
    for outcome in outcomes:
        lines += ["", f"## {outcome.name}: {outcome.state} ({outcome.seconds:.0f} s)", ""]
        lines += [outcome.why, ""] if outcome.why else []
        if outcome.facts:
            lines += ["| | |", "|---|---|"]
            lines += [f"| {name} | {_shown(value)} |" for name, value in outcome.facts.items()]
    return "\n".join(lines).rstrip() + "\n"


def _shown(value: float | str) -> str:
    return value.replace("|", "/") if isinstance(value, str) else f"{value:.4g}"


def write(outcomes: list[Outcome], title: str, out: Path) -> None:
    """Write the report as Markdown and JSON, beside each other."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.with_suffix(".md").write_text(markdown(outcomes, title), encoding="utf-8")
    facts = json.dumps({"title": title, "sections": [asdict(o) for o in outcomes]}, indent=1)
    out.with_suffix(".json").write_text(facts + "\n", encoding="utf-8")
