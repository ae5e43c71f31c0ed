"""``iddpm upscale``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import (
    Checkpoint,
    ClassName,
    Condition,
    Device,
    Ema,
    Guidance,
    Network,
    Sampler,
    Spacing,
    Threads,
)


def upscale(
    run: Annotated[Path, typer.Argument(help="A run with task=super_resolution.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, clips, .npy, .npz, .wav, .flac, .nii(.gz), .csv, or folders."
        ),
    ],
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations per tile [default: the run's, 50].")
    ] = None,
    sampler: Sampler = None,
    spacing: Spacing = None,
    overlap: Annotated[
        float, typer.Option(help="Share of a tile that it shares with its neighbour.")
    ] = 0.25,
    low_res_noise: Annotated[
        float | None,
        typer.Option(help="Noise to add to the files, up to the run's degradation.augment."),
    ] = None,
    class_name: ClassName = None,
    condition: Condition = None,
    guidance: Guidance = None,
    seed: Annotated[int, typer.Option(help="Item k depends on the seed and k alone.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/upscaled].")
    ] = None,
    ema: Ema = None,
    checkpoint: Checkpoint = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Tiles at a time; fewer need less memory.")
    ] = None,
    device: Device = "auto",
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Upscale files of any size, and write them as files of the same kind.

    Example: iddpm upscale runs/faces photo.png scans/ --steps 20 --out finer
    """
    import torch

    from iddpm.data.conditioning.requested import read_asked
    from iddpm.runs.run import load
    from iddpm.tasks.upscale import upscale as go

    if threads is not None:
        torch.set_num_threads(threads)
    go(
        load(run, ema=ema, checkpoint=checkpoint, device=device, network=network),
        files,
        seed=seed,
        class_name=class_name,
        conditions=read_asked(condition or ()),
        overlap=overlap,
        out=out,
        steps=steps,
        sampler=sampler,
        spacing=spacing,
        low_res_noise=low_res_noise,
        guidance=guidance,
        batch_size=batch_size,
    )
