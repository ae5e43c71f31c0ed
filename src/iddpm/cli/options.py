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
Sampler = Annotated[str | None, typer.Option(help="As in iddpm sample [default: the run's].")]
Spacing = Annotated[str | None, typer.Option(help="As in iddpm sample [default: the run's].")]
ClassName = Annotated[
    str | None, typer.Option("--class", help="A class by name or number [default: none].")
]
Guidance = Annotated[float | None, typer.Option(help="Exaggerate the class.")]
Condition = Annotated[
    list[str] | None,
    typer.Option(
        help="What samples shall have, such as age=63; age=20..80 spreads, age=20,40 takes "
        "turns. Repeatable; the others are left open."
    ),
]
