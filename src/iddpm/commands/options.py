"""Options that several commands have, worded once."""

from typing import Annotated

import typer

Ema = Annotated[str | None, typer.Option(help="Rate of the average, or none [default: the first].")]
Checkpoint = Annotated[
    str | None, typer.Option(help="Step of the checkpoint, or best [default: the newest].")
]
EmaLength = Annotated[
    float | None,
    typer.Option(help="Make an average of this length, such as 0.07, from RUN/averages."),
]
BatchSize = Annotated[int | None, typer.Option(help="Samples at a time.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")]
AcceptData = Annotated[
    bool,
    typer.Option("--accept-data", help="Resume although the data has changed since the start."),
]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
