"""``iddpm likelihood``."""

from math import log
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import Checkpoint, Device, Ema, EmaLength, Network, Threads
from iddpm.runtime.console import say


def likelihood(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Annotated[
        str | None,
        typer.Argument(help="What to measure [default: the items held out of the training]."),
    ] = None,
    conditions: Annotated[
        Path | None,
        typer.Option(help="A table of conditions of DATA, for models with conditions."),
    ] = None,
    given: Annotated[
        Path | None,
        typer.Option(help="What goes with DATA, for models that draw from data that is given."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of the reverse process [default: all T].")
    ] = None,
    stride: Annotated[
        str, typer.Option(help="even, or optimal: the steps with the best likelihood.")
    ] = "even",
    variance: Annotated[
        str | None,
        typer.Option(
            help="learned, fixed_small, fixed_large or analytic [default: as it was trained]."
        ),
    ] = None,
    samples_per_item: Annotated[
        int | None,
        typer.Option(help="Estimate from so many network evaluations per item [default: all]."),
    ] = None,
    few_steps: Annotated[
        str, typer.Option(help="How those are drawn: importance or stratified.")
    ] = "importance",
    bits: Annotated[
        int | None, typer.Option(help="Depth of data stored as floats although it has levels.")
    ] = None,
    clip: Annotated[bool, typer.Option(help="Keep estimates of the data in [-1, 1].")] = True,
    max_items: Annotated[
        int | None, typer.Option(help="Measure so many items, evenly spread.")
    ] = None,
    table_items: Annotated[
        int, typer.Option(help="Training items behind optimal and analytic.")
    ] = 64,
    ema: Ema = None,
    checkpoint: Checkpoint = None,
    ema_length: EmaLength = None,
    seed: Annotated[int, typer.Option(help="Of all noise.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/likelihood].")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(max=10**7, help="Items at a time.")] = None,
    precision: Annotated[str, typer.Option(help="float32, bf16, fp16 or auto.")] = "float32",
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Measure the likelihood of held-out data in bits per dimension, with its error.

    Example: iddpm likelihood runs/demo --steps 32 --stride optimal
    """
    import torch

    from iddpm.builders import values_of
    from iddpm.runs.run import load
    from iddpm.runtime.processes import DAY, JOINING, joined_ranks
    from iddpm.tasks.likelihood import likelihood
    from iddpm.tasks.likelihood_report import name_of, write_likelihood

    if threads is not None:
        torch.set_num_threads(threads)
    with joined_ranks("cpu", JOINING) as ranks:
        ranks.limit(DAY)
        with ranks.together():
            opened = load(
                run,
                ema=ema,
                checkpoint=checkpoint,
                ema_length=ema_length,
                device=device,
                network=network,
            )
        result = likelihood(
            opened,
            data,
            conditions=conditions,
            given=given,
            steps=steps,
            stride=stride,
            variance=variance,
            samples_per_item=samples_per_item,
            few_steps=few_steps,
            bits=bits,
            clip=clip,
            max_items=max_items,
            table_items=table_items,
            seed=seed,
            batch_size=batch_size,
            precision=precision,
            ranks=ranks,
        )
        ranks.by_first(lambda: write_likelihood(result, out or run / "likelihood", name_of(result)))
    if not ranks.first:
        return
    if result.unit == "nats/dim":
        say(
            "continuous data: nats per dimension of a bound on its density in [-1, 1]; bits/dim "
            "would need the data's levels (--bits)"
        )
        values = values_of(opened.config)
        if not values.natural:
            say(
                f"for the density in the data's own units ({values.low:g} to {values.high:g} are "
                f"-1 to 1) add {log((values.high - values.low) / 2):.4f} nats/dim"
            )
    beside = f" given the {result.facts['given']}" if result.facts["given"] else ""
    for part in ("prior", "steps", "decoder"):
        value = getattr(result, part)
        say(f"  {part:<8} {value.mean:10.4f} +- {value.error:.4f}")
    say(
        f"{result}{beside} ({result.facts['items']} items, {result.facts['steps']} of "
        f"{result.facts['trained_steps']} steps, {result.facts['seconds']:.1f} s)"
    )
