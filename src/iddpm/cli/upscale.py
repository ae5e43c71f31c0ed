"""``iddpm upscale``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Opening, settings_of
from iddpm.cli.options import ClassName, Condition, Guidance


@dataclass(frozen=True)
class Upscaling:
    """How tiles are sampled and combined."""

    steps: Annotated[
        int | None, typer.Option(help="Evaluations per tile [default: the run's, 50]; 1 is quick.")
    ] = None
    sampler: Annotated[
        str | None, typer.Option(help="As for iddpm sample [default: the run's].")
    ] = None
    spacing: Annotated[
        str | None, typer.Option(help="As for iddpm sample [default: the run's].")
    ] = None
    average: Annotated[
        int,
        typer.Option(
            help="Number of samples, of seeds SEED, SEED + 1, ...; their mean is written, and with "
            "2 or more a map of their standard deviation."
        ),
    ] = 1
    overlap: Annotated[
        float, typer.Option(help="Overlap of neighboring tiles, as a share of a tile.")
    ] = 0.25
    low_res_noise: Annotated[
        float | None,
        typer.Option(help="Noise to add to the input, up to the run's degradation.augment."),
    ] = None
    class_name: ClassName = None
    guidance: Guidance = None
    seed: Annotated[
        int, typer.Option(help="Random seed; item k depends only on the seed and k.")
    ] = 0
    batch_size: Annotated[
        int | None, typer.Option(help="Tiles per batch; fewer need less memory.")
    ] = None


def upscale(
    run: Annotated[Path, typer.Argument(help="A run with task=super_resolution.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            help="Pictures, clips, videos, .npy, .npz, .wav, .flac, .nii(.gz), .csv, or folders."
        ),
    ],
    condition: Condition = None,
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/upscaled].")
    ] = None,
    *,
    upscaling: Upscaling,
    opening: Opening,
) -> None:
    """Upscale files of any size to files of the same kind.

    Example: iddpm upscale runs/faces photo.png scans/ --steps 20 --out upscaled
    """
    from iddpm.data.conditioning.requested import read_requested
    from iddpm.tasks.upscale import upscale as go

    conditions = read_requested(condition or ())
    go(opening.open(run), files, conditions=conditions, out=out, **settings_of(upscaling))
