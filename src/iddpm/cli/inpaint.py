"""``iddpm inpaint``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import ClassName, Device, Guidance, Network, Threads


def inpaint(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    file: Annotated[
        str, typer.Argument(help="A picture, a .npy array, or a held-out item's number.")
    ],
    mask: Annotated[
        Path, typer.Option(help="A picture or .npy array, white or 1 where to fill in.")
    ],
    n: Annotated[int, typer.Option("-n", max=10_000, help="How many versions.")] = 4,
    resample: Annotated[
        int, typer.Option(help="Passes over every stretch (RePaint); 1 is replacement alone.")
    ] = 1,
    jump: Annotated[int, typer.Option(help="Steps to go back when resampling.")] = 10,
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations per pass [default: the run's, 50].")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(help="As in iddpm sample [default: ddim with fresh noise].")
    ] = None,
    spacing: Annotated[str | None, typer.Option(help="As in iddpm sample [default: even].")] = None,
    class_name: ClassName = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Version k depends on the seed and k alone.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/samples/inpainting].")
    ] = None,
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Fill in the masked region; everything else stays exactly as it is.

    Example: iddpm inpaint runs/demo 0 --mask mask.png --resample 5
    """
    import torch

    from iddpm.runs.run import load
    from iddpm.tasks.edit import inpaint as go

    if threads is not None:
        torch.set_num_threads(threads)
    go(
        load(run, device=device, network=network),
        file,
        mask,
        n=n,
        resample=resample,
        jump=jump,
        seed=seed,
        class_name=class_name,
        out=out,
        steps=steps,
        sampler=sampler,
        spacing=spacing,
        guidance=guidance,
    )
