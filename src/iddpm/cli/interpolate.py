"""``iddpm interpolate``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import ClassName, Device, Network, Threads


def interpolate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    a: Annotated[str, typer.Argument(help="A picture, a .npy array, or a held-out item's number.")],
    b: Annotated[str, typer.Argument(help="Another.")],
    frames: Annotated[int, typer.Option(max=10_000, help="How many, both ends included.")] = 9,
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations each way [default: 250].")
    ] = None,
    class_name: ClassName = None,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/samples/interpolation].")
    ] = None,
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Interpolate between two items in the latent noise.

    Example: iddpm interpolate runs/demo 0 1 --frames 9
    """
    import torch

    from iddpm.runs.run import load
    from iddpm.tasks.edit import interpolate as go

    if threads is not None:
        torch.set_num_threads(threads)
    go(
        load(run, device=device, network=network),
        a,
        b,
        frames=frames,
        steps=steps,
        class_name=class_name,
        out=out,
    )
