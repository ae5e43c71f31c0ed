"""Options that several commands have, worded once."""

from typing import Annotated, Any

import typer

Ema = Annotated[str | None, typer.Option(help="Rate of the average, or none [default: the first].")]
Checkpoint = Annotated[
    str | None, typer.Option(help="Step of the checkpoint, or best [default: the newest].")
]
EmaLength = Annotated[
    float | None,
    typer.Option(help="Make an average of this length, such as 0.07, from RUN/averages."),
]
BatchSize = Annotated[int | None, typer.Option(max=10**7, help="Samples at a time.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")]
AcceptData = Annotated[
    bool,
    typer.Option("--accept-data", help="Resume although the data has changed since the start."),
]
Network = Annotated[
    str | None,
    typer.Option(
        help="The own network of the run, as package.module:factory, searched from here first."
    ),
]
Item = Annotated[str, typer.Argument(help="A picture, a .npy array, or a held-out item's number.")]
Threads = Annotated[int | None, typer.Option(min=1, max=1024, help="CPU threads.")]
Seed = Annotated[int, typer.Option(help="Sample k depends on the seed and k alone.")]
Precision = Annotated[
    str | None, typer.Option(help="float32, bf16, fp16 or auto [default: the run's, float32].")
]
ClassName = Annotated[
    str | None, typer.Option("--class", help="A class by name or number [default: none].")
]
Guidance = Annotated[float | None, typer.Option(help="Exaggerate the class.")]


def read_interval(text: str) -> tuple[float, float]:
    """Read LOW,HIGH as two numbers."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not LOW,HIGH such as 0.3,5") from None
    return low, high


GuidanceInterval = Annotated[
    Any,
    typer.Option(
        parser=read_interval,
        metavar="LOW,HIGH",
        help="Guide only at noise levels sigma between LOW and HIGH, such as 0.3,5.",
    ),
]
Condition = Annotated[
    list[str] | None,
    typer.Option(
        help="What samples shall have, such as age=63; age=20..80 spreads, age=20,40 takes "
        "turns. Repeatable; the others are left open."
    ),
]
