"""``iddpm edit``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import ItemSampling, Opening, Versions, settings_of
from iddpm.cli.options import Item


def edit(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    file: Item,
    strength: Annotated[
        float,
        typer.Option(help="Share of the noise process: 0.2 keeps most of the item, 0.8 little."),
    ] = 0.5,
    *,
    versions: Versions,
    sampling: ItemSampling,
    opening: Opening,
) -> None:
    """Vary an item: add noise up to a level and denoise again.

    Example: iddpm edit runs/demo drawing.png --strength 0.5 --class 7
    """
    from iddpm.tasks.edit import edit as go

    options = settings_of(versions) | settings_of(sampling)
    go(opening.open(run), file, strength=strength, **options)
