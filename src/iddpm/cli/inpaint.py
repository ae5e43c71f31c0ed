"""``iddpm inpaint``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import ItemSampling, Opening, Versions, settings_of
from iddpm.cli.options import Item


@dataclass(frozen=True)
class Filling:
    """How often stretches are drawn again, and whether the item keeps its own size."""

    resample: Annotated[
        int,
        typer.Option(help="Passes over every interval of --jump steps (RePaint); 1 only replaces."),
    ] = 1
    jump: Annotated[int, typer.Option(help="Steps to go back when resampling.")] = 10
    tiled: Annotated[
        bool,
        typer.Option(
            "--tiled",
            help="Keep the size of FILE, in tiles of the trained size, instead of cropping and "
            "resizing it.",
        ),
    ] = False
    overlap: Annotated[
        float, typer.Option(help="Overlap of neighboring tiles, as a share of a tile.")
    ] = 0.25


def inpaint(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    file: Item,
    mask: Annotated[
        Path, typer.Option(help="A picture or .npy array; white or 1 marks the region to fill in.")
    ],
    *,
    filling: Filling,
    versions: Versions,
    sampling: ItemSampling,
    opening: Opening,
) -> None:
    """Fill in a masked region; the rest stays unchanged.

    Example: iddpm inpaint runs/demo 0 --mask mask.png --resample 5
    """
    from iddpm.tasks.edit import inpaint as go

    options = settings_of(filling) | settings_of(versions) | settings_of(sampling)
    go(opening.open(run), file, mask, **options)
