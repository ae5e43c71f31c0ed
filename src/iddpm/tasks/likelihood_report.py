"""What a measured likelihood is, and how it is written down."""

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from torch import Tensor

from iddpm.evaluation.bound_terms import Process, Terms
from iddpm.evaluation.sampled_bound import heavy_tailed_error
from iddpm.runtime.atomic_files import write_json, write_text
from iddpm.runtime.console import open_console
from iddpm.tasks.curves import save_terms


class Estimate(NamedTuple):
    """A mean over items and its standard error (NaN for a single item)."""

    mean: float
    error: float


@dataclass(frozen=True)
class Likelihood:
    """A bound on the negative log-likelihood per dimension; lower is better.

    Attributes:
        unit: ``"bits/dim"``, or ``"nats/dim"`` of a density for continuous data.
        total: the bound; ``prior``, ``steps`` and ``decoder`` are its parts.
        prior: what remains of the data at the noisiest step.
        steps: the terms of all steps but the last, summed.
        decoder: the term of step 0.
        per_step: one row for each step of the process that was looked at, the noisiest first.
        facts: everything that defines the measurement.
    """

    unit: str
    total: Estimate
    prior: Estimate
    steps: Estimate
    decoder: Estimate
    per_step: list[dict[str, float]]
    facts: dict[str, Any]

    def __str__(self) -> str:
        """Say the result in one line."""
        return f"{self.total.mean:.4f} +- {self.total.error:.4f} {self.unit}"


def write_likelihood(
    result: Likelihood, directory: Path, name: str, console: Console | None = None
) -> list[Path]:
    """Write a measurement as NAME.json, NAME.csv and NAME.png; return and print the paths.

    Without matplotlib there is no picture, which is said.
    """
    console = console or open_console()
    parts = ("total", "prior", "steps", "decoder")
    values = {part: _plain(getattr(result, part)) for part in parts}
    report = {"unit": result.unit, **values, "facts": result.facts}
    text = io.StringIO()
    writer = csv.DictWriter(text, list(result.per_step[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(result.per_step)
    written = [
        write_json(directory / f"{name}.json", report),
        write_text(directory / f"{name}.csv", text.getvalue()),
    ]
    try:
        written.append(save_terms(result.per_step, result.unit, directory / f"{name}.png"))
    except ValueError as error:  # the numbers are there all the same
        console.print(str(error), markup=False)
    for path in written:
        console.print(f"wrote {path}", markup=False)
    return written


def _plain(value: Estimate) -> dict[str, float | None]:
    """Return a value as JSON can hold it, which knows no NaN."""
    return {"mean": value.mean, "error": None if math.isnan(value.error) else value.error}


def name_of(result: Likelihood) -> str:
    """Return a file name that tells one measurement from another of the same run."""
    facts = result.facts
    how = f"{facts['steps']}_{facts['stride']}_{facts['variance']}"
    parts = [
        "held_out" if facts["data"].startswith("held-out") else Path(facts["data"]).stem,
        how if facts["method"] == "steps" else facts["method"],
    ]
    if facts["few_steps"]:
        parts.append(f"{facts['few_steps']}_{facts['samples_per_item']}")
    if facts["ema"] is not None:
        parts.append(f"ema_{facts['ema']}")
    if facts["checkpoint"] is not None:
        parts.append(f"step_{facts['checkpoint']}")
    if facts["ema_length"] is not None:
        parts.append(f"ema_length_{facts['ema_length']:g}")
    return "_".join(parts)


def estimate(values: Tensor, *, drawn: bool = False) -> Estimate:
    """Return the mean of values [N] and its standard error, NaN for a single one.

    ``drawn`` says that each was estimated from steps that were drawn.
    """
    if drawn:
        return Estimate(float(values.mean()), heavy_tailed_error(values))
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Estimate(float(values.mean()), error)


def per_step(terms: Terms, each: Process, factor: float) -> list[dict[str, float]]:
    """One row for each measured step, the noisiest first."""
    rows = []
    for position in reversed(range(len(each.kept))):
        here = terms.positions == position
        if not bool(here.any()):
            continue
        mean, error = estimate(factor * terms.vb[here])
        rows.append(
            {
                "step": each.kept[position],
                "log_snr": 2 * float(each.diffusion.schedule.half_log_snr[position]),
                "items": int(here.sum()),
                "mean": mean,
                "error": error,
                "x0_mse": float(terms.x0_mse[here].mean()),
                "eps_mse": float(terms.eps_mse[here].mean()),
            }
        )
    return rows
