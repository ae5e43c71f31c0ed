"""Options that several commands share."""

from typing import Annotated, Any

import typer

Ema = Annotated[
    str | None,
    typer.Option(
        help="Rate of the weight average (EMA), or none for the weights without averaging "
        "[default: the first of training.ema_rates]."
    ),
]
Checkpoint = Annotated[
    str | None, typer.Option(help="Step of the checkpoint, or best [default: the newest].")
]
EmaLength = Annotated[
    float | None,
    typer.Option(
        help="Length of a weight average as a share of the training, such as 0.07; for runs with "
        "training.posthoc_ema."
    ),
]
BatchSize = Annotated[int | None, typer.Option(max=10**7, help="Samples per batch.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")]
AcceptData = Annotated[
    bool,
    typer.Option("--accept-data", help="Resume even if the data has changed."),
]
Network = Annotated[
    str | None,
    typer.Option(
        help="Your own network, as package.module:factory; the working directory is searched first."
    ),
]
Item = Annotated[
    str,
    typer.Argument(
        help="A picture, sound, volume, clip or .npy array, or the number of a held-out item."
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=1024, help="Number of CPU threads [default: PyTorch's].")
]
Seed = Annotated[int, typer.Option(help="Random seed; sample k depends only on the seed and k.")]
Precision = Annotated[
    str | None, typer.Option(help="float32, bf16, fp16 or auto [default: the run's, float32].")
]
ClassName = Annotated[
    str | None, typer.Option("--class", help="Class name or number [default: no class].")
]
Guidance = Annotated[
    float | None, typer.Option(help="Scale of classifier-free guidance; 1 is the model as trained.")
]


def read_interval(text: str) -> tuple[float, float]:
    """Read LOW,HIGH as two numbers."""
    try:
        low, high = map(float, text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not LOW,HIGH such as 0.3,5") from None
    return low, high


def read_extent(text: str) -> tuple[int, ...]:
    """Read N, HxW or DxHxW as whole numbers of 1 or more."""
    try:
        extent = tuple(int(part) for part in text.replace(",", "x").split("x"))
    except ValueError:
        extent = ()
    if not 0 < len(extent) <= 3 or min(extent) < 1:
        raise typer.BadParameter(f"{text!r} is not a size such as 64, 64x48 or 16x64x64")
    return extent


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
        metavar="NAME=VALUE",
        help="Requested condition, such as age=63; age=20..80 is spread evenly over the "
        "samples, age=20,40 alternates. May be repeated; omitted conditions vary.",
    ),
]
