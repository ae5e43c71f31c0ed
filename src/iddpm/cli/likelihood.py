"""``iddpm likelihood``."""

from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iddpm.cli.option_groups import Opening, settings_of
from iddpm.runtime.console import say

if TYPE_CHECKING:
    from iddpm.config import Config
    from iddpm.tasks.likelihood_report import Likelihood


@dataclass(frozen=True)
class Beside:
    """Conditioning of other data."""

    conditions: Annotated[
        Path | None,
        typer.Option(help="Table of the conditions of DATA, for models with conditions."),
    ] = None
    given: Annotated[
        Path | None,
        typer.Option(help="Paired data of DATA, for models that are conditioned on paired data."),
    ] = None


@dataclass(frozen=True)
class Bound:
    """Which bound is measured, and how."""

    method: Annotated[
        str,
        typer.Option(help="steps; continuous, the bound for infinitely many; or ode, an estimate."),
    ] = "steps"
    steps: Annotated[
        int | None, typer.Option(help="Steps of the reverse process [default: all T].")
    ] = None
    stride: Annotated[
        str, typer.Option(help="even, or optimal: the steps with the best likelihood.")
    ] = "even"
    variance: Annotated[
        str | None,
        typer.Option(help="learned, fixed_small, fixed_large or analytic [default: as trained]."),
    ] = None
    samples_per_item: Annotated[
        int | None,
        typer.Option(help="Network evaluations per item for an estimate [default: all]."),
    ] = None
    few_steps: Annotated[
        str, typer.Option(help="How these evaluations are drawn: importance or stratified.")
    ] = "importance"
    tolerance: Annotated[
        float | None,
        typer.Option(help="Of the ODE: more steps for an item until its error is at most this."),
    ] = None
    bits: Annotated[
        int | None, typer.Option(help="Bit depth of data that is stored as floats but has levels.")
    ] = None
    clip: Annotated[bool, typer.Option(help="Clip estimates of the data to [-1, 1].")] = True
    max_items: Annotated[
        int | None, typer.Option(help="Number of items to measure, evenly spaced.")
    ] = None
    table_items: Annotated[
        int, typer.Option(help="Number of training items for optimal and analytic.")
    ] = 64
    seed: Annotated[int, typer.Option(help="Random seed of the noise.")] = 0
    batch_size: Annotated[int | None, typer.Option(max=10**7, help="Items per batch.")] = None
    precision: Annotated[str, typer.Option(help="float32, bf16, fp16 or auto.")] = "float32"


def likelihood(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Data to measure [default: the held-out items]."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/likelihood].")
    ] = None,
    *,
    beside: Beside,
    bound: Bound,
    opening: Opening,
) -> None:
    """Measure the likelihood of held-out data in bits/dim.

    Example: iddpm likelihood runs/demo --steps 32 --stride optimal
    """
    from iddpm.tasks.likelihood import likelihood
    from iddpm.tasks.likelihood_report import name_of, write_likelihood

    with opening.shared(run) as (opened, ranks):
        how = settings_of(beside) | settings_of(bound)
        result = likelihood(opened, data, ranks=ranks, **how)
        ranks.by_first(lambda: write_likelihood(result, out or run / "likelihood", name_of(result)))
    if ranks.first:
        _print(result, opened.config)


def _print(result: "Likelihood", config: "Config") -> None:
    """Print the bound and its parts."""
    from iddpm.builders import values_of

    facts = result.facts
    if result.unit == "nats/dim":
        bound = "of" if facts["method"] == "ode" else "a bound on"
        say(
            f"continuous data: nats per dimension, {bound} the density in [-1, 1]; bits/dim "
            "need data with levels (--bits)"
        )
        values = values_of(config)
        if not values.natural:
            say(
                f"for the density in the data's own units ({values.low:g} to {values.high:g} "
                f"become -1 to 1) add {log((values.high - values.low) / 2):.4f} nats/dim"
            )
    beside = f" conditioned on the {result.facts['given']}" if result.facts["given"] else ""
    for part in ("prior", "steps", "decoder"):
        value = getattr(result, part)
        say(f"  {part:<8} {value.mean:10.4f} +- {value.error:.4f}")
    steps = f"{facts['steps']} of {facts['trained_steps']} steps"
    if facts["method"] != "steps":
        more = "" if facts["tolerance"] is None else " or more"
        ode = f"{facts['steps'] - 1}{more} steps of the ODE"
        steps = {"continuous": "continuous time", "ode": ode}[facts["method"]]
    say(f"{result}{beside} ({facts['items']} items, {steps}, {facts['seconds']:.1f} s)")
