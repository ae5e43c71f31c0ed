"""``iddpm interpolate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Opening, settings_of
from iddpm.cli.options import ClassName, Item


@dataclass(frozen=True)
class Latents:
    """Which points between two items are drawn, and where they are written."""

    frames: Annotated[
        int, typer.Option(max=10_000, help="Number of frames, including both ends.")
    ] = 9
    steps: Annotated[
        int | None, typer.Option(help="Network evaluations for each direction [default: 250].")
    ] = None
    class_name: ClassName = None
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/samples/interpolation].")
    ] = None


def interpolate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    a: Item,
    b: Annotated[str, typer.Argument(help="The same, for the other end.")],
    *,
    path: Latents,
    opening: Opening,
) -> None:
    """Interpolate between two items in the latent noise.

    Example: iddpm interpolate runs/demo 0 1 --frames 9
    """
    from iddpm.tasks.edit import interpolate as go

    go(opening.open(run), a, b, **settings_of(path))
