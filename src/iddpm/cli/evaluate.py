"""``iddpm evaluate``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Opening, Sampling, settings_of
from iddpm.cli.options import Seed
from iddpm.runtime.console import say


@dataclass(frozen=True)
class Compared:
    """What is compared with the data, and by what."""

    features: Annotated[
        str, typer.Option(help="pca, the directory of a classifier, or an .onnx file.")
    ] = "pca"
    samples: Annotated[
        Path | None, typer.Option(help="A .npz of samples to measure instead of drawing.")
    ] = None
    reference: Annotated[
        Path | None, typer.Option(help="Statistics to compare with, from another RUN/cache.")
    ] = None
    class_name: Annotated[
        str | None,
        typer.Option("--class", help="One class for all [default: as often as in the data]."),
    ] = None
    seed: Seed = 0


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Real data to compare with [default: what the run was trained on]."),
    ] = None,
    n: Annotated[int, typer.Option("-n", max=10**7, help="How many samples.")] = 5000,
    out: Annotated[
        Path | None, typer.Option(help="Where to write [default: RUN/evaluation].")
    ] = None,
    *,
    compared: Compared,
    sampling: Sampling,
    opening: Opening,
) -> None:
    """Measure quality and diversity of samples, and whether they copy training items.

    Example: iddpm evaluate runs/demo --features runs/demo/classifier -n 2000 --steps 10
    """
    from iddpm.evaluation.report import markdown
    from iddpm.tasks.evaluate import evaluate as measure

    how = settings_of(compared)
    with opening.shared(run) as (opened, ranks):
        result = measure(
            opened,
            data,
            n=n,
            out=out,
            classes=how.pop("class_name"),
            sampling=settings_of(sampling),
            ranks=ranks,
            **how,
        )
    if ranks.first:
        say(markdown(result.report), end="")
