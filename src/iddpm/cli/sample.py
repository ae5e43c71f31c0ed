"""``iddpm sample``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from iddpm.cli.option_groups import Opening, Sampling, settings_of
from iddpm.cli.options import Condition, Seed, read_extent


@dataclass(frozen=True)
class Wanted:
    """What to sample."""

    class_name: Annotated[str | None, typer.Option("--class", help="Class name or number.")] = None
    condition: Condition = None
    given: Annotated[
        Path | None,
        typer.Option(
            help="Paired data for models that are conditioned on it: a picture, a folder or an "
            "array [default: the paired data of the held-out items]."
        ),
    ] = None
    seed: Seed = 0
    size: Annotated[
        Any,
        typer.Option(
            parser=read_extent,
            metavar="L, HxW or DxHxW",
            help="Size of the samples, drawn as tiles of the trained size [default: the trained "
            "size].",
        ),
    ] = None
    overlap: Annotated[
        float, typer.Option(help="Overlap of neighboring tiles of --size, as a share of a tile.")
    ] = 0.25


@dataclass(frozen=True)
class Files:
    """What to write, and where."""

    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/samples/seed_0].")
    ] = None
    npz: Annotated[bool, typer.Option("--npz", help="Also write samples.npz.")] = False
    gif: Annotated[bool, typer.Option("--gif", help="Also write denoising.gif.")] = False


def sample(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    n: Annotated[
        int | None,
        typer.Option(
            "-n", max=10**9, help="Number of samples [default: 64, or one for each of --given]."
        ),
    ] = None,
    *,
    wanted: Wanted,
    sampling: Sampling,
    opening: Opening,
    written: Files,
) -> None:
    """Draw samples and write files in the format of the data.

    Example: iddpm sample runs/demo -n 16 --class 7 --steps 50 --seed 1
    """
    from iddpm.builders import read_given
    from iddpm.data.conditioning.requested import read_requested
    from iddpm.tasks.draw import DrawRequest, Written, draw

    with opening.shared(run) as (opened, ranks):
        with ranks.together():
            plan = opened.plan(**settings_of(sampling))
            file = wanted.given
            beside = None if file is None else read_given(opened.config, file, wanted.size)
        request = DrawRequest(
            n if n is not None else 64 if beside is None else len(beside),
            wanted.seed,
            wanted.class_name,
            read_requested(wanted.condition or ()),
            beside,
            wanted.size,
            wanted.overlap,
        )
        draw(opened, request, plan, Written(**settings_of(written)), ranks=ranks)
