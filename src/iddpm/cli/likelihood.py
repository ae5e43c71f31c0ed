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
    """What goes with other data."""

    conditions: Annotated[
        Path | None,
        typer.Option(help="A table of conditions of DATA, for models with conditions."),
    ] = None
    given: Annotated[
        Path | None,
        typer.Option(help="What goes with DATA, for models that draw from data that is given."),
    ] = None


@dataclass(frozen=True)
class Bound:
    """Which bound is measured."""

    method: Annotated[
        str, typer.Option(help="steps, or continuous: the bound of infinitely many steps.")
    ] = "steps"
    steps: Annotated[
        int | None, typer.Option(help="Steps of the reverse process [default: all T].")
    ] = None
    stride: Annotated[
        str, typer.Option(help="even, or optimal: the steps with the best likelihood.")
    ] = "even"
    variance: Annotated[
        str | None,
        typer.Option(
            help="learned, fixed_small, fixed_large or analytic [default: as it was trained]."
        ),
    ] = None
    samples_per_item: Annotated[
        int | None,
        typer.Option(help="Estimate from so many network evaluations per item [default: all]."),
    ] = None
    few_steps: Annotated[
        str, typer.Option(help="How those are drawn: importance or stratified.")
    ] = "importance"
    bits: Annotated[
        int | None, typer.Option(help="Depth of data stored as floats although it has levels.")
    ] = None
    clip: Annotated[bool, typer.Option(help="Keep estimates of the data in [-1, 1].")] = True
    max_items: Annotated[int | None, typer.Option(help="Measure so many items, evenly spread.")] = (
        None
    )
    table_items: Annotated[
        int, typer.Option(help="Training items behind optimal and analytic.")
    ] = 64
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 0
    batch_size: Annotated[int | None, typer.Option(max=10**7, help="Items at a time.")] = None
    precision: Annotated[str, typer.Option(help="float32, bf16, fp16 or auto.")] = "float32"


def likelihood(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Annotated[
        str | None,
        typer.Argument(help="What to measure [default: the items held out of the training]."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/likelihood].")
    ] = None,
    *,
    beside: Beside,
    bound: Bound,
    opening: Opening,
) -> None:
    """Measure the likelihood of held-out data in bits per dimension, with its error.

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

    if result.unit == "nats/dim":
        say(
            "continuous data: nats per dimension of a bound on its density in [-1, 1]; bits/dim "
            "would need the data's levels (--bits)"
        )
        values = values_of(config)
        if not values.natural:
            say(
                f"for the density in the data's own units ({values.low:g} to {values.high:g} are "
                f"-1 to 1) add {log((values.high - values.low) / 2):.4f} nats/dim"
            )
    beside = f" given the {result.facts['given']}" if result.facts["given"] else ""
    for part in ("prior", "steps", "decoder"):
        value = getattr(result, part)
        say(f"  {part:<8} {value.mean:10.4f} +- {value.error:.4f}")
    facts = result.facts
    steps = f"{facts['steps']} of {facts['trained_steps']} steps"
    if facts["method"] == "continuous":
        steps = "continuous time"
    say(f"{result}{beside} ({facts['items']} items, {steps}, {facts['seconds']:.1f} s)")
