"""``iddpm edit``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import ClassName, Device, Guidance, Network, Sampler, Spacing, Threads


def edit(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    file: Annotated[
        str, typer.Argument(help="A picture, a .npy array, or a held-out item's number.")
    ],
    strength: Annotated[
        float, typer.Option(help="Share of the way to noise: 0.2 keeps most, 0.8 little.")
    ] = 0.5,
    n: Annotated[int, typer.Option("-n", max=10_000, help="How many versions.")] = 4,
    steps: Annotated[
        int | None,
        typer.Option(help="Network evaluations from pure noise; a share is taken [default: 50]."),
    ] = None,
    sampler: Sampler = None,
    spacing: Spacing = None,
    class_name: ClassName = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Version k depends on the seed and k alone.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/samples/edit].")
    ] = None,
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Redraw an item: add noise up to a level and denoise again.

    Example: iddpm edit runs/demo drawing.png --strength 0.5 --class 7
    """
    import torch

    from iddpm.runs.run import load
    from iddpm.tasks.edit import edit as go

    if threads is not None:
        torch.set_num_threads(threads)
    go(
        load(run, device=device, network=network),
        file,
        strength=strength,
        n=n,
        seed=seed,
        class_name=class_name,
        out=out,
        steps=steps,
        sampler=sampler,
        spacing=spacing,
        guidance=guidance,
    )
