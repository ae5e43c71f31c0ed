"""``iddpm inpaint``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import ItemSampling, Opening, Versions, settings_of
from iddpm.cli.options import Item


@dataclass(frozen=True)
class RePaint:
    """How often stretches are drawn again."""

    resample: Annotated[
        int,
        typer.Option(help="Passes over every interval of --jump steps (RePaint); 1 only replaces."),
    ] = 1
    jump: Annotated[int, typer.Option(help="Steps to go back when resampling.")] = 10


def inpaint(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    file: Item,
    mask: Annotated[
        Path, typer.Option(help="A picture or .npy array; white or 1 marks the region to fill in.")
    ],
    *,
    repaint: RePaint,
    versions: Versions,
    sampling: ItemSampling,
    opening: Opening,
) -> None:
    """Fill in a masked region; the rest stays unchanged.

    Example: iddpm inpaint runs/demo 0 --mask mask.png --resample 5
    """
    from iddpm.tasks.edit import inpaint as go

    options = settings_of(repaint) | settings_of(versions) | settings_of(sampling)
    go(opening.open(run), file, mask, **options)
