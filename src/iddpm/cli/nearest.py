"""``iddpm nearest``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import Network


def nearest(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    sample: Annotated[
        Path,
        typer.Argument(
            help="A picture or .npy array; or with --number a folder of iddpm sample, samples.npz "
            "or samples.csv."
        ),
    ],
    number: Annotated[
        int | None, typer.Option(help="Number of the sample in SAMPLE, from 0.")
    ] = None,
    n: Annotated[int, typer.Option("-n", max=100, help="Number of training items.")] = 5,
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/nearest].")
    ] = None,
    network: Network = None,
) -> None:
    """Show the training items nearest to a sample, and whether it is a copy.

    Example: iddpm nearest runs/demo runs/demo/samples/seed_0 --number 3
    """
    from iddpm.runs.run import Run
    from iddpm.tasks.nearest import nearest as find

    find(Run(run, device="cpu", network=network), sample, number=number, n=n, out=out)
