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
    """What is compared with the data, and with which features."""

    features: Annotated[
        str, typer.Option(help="Features: pca, the directory of a classifier, or an .onnx file.")
    ] = "pca"
    samples: Annotated[
        Path | None,
        typer.Option(help="A .npz or .npy file of samples to measure instead of sampling."),
    ] = None
    reference: Annotated[
        Path | None, typer.Option(help="Reference statistics from the cache of another run.")
    ] = None
    class_name: Annotated[
        str | None,
        typer.Option(
            "--class", help="One class for all samples [default: the frequencies of the data]."
        ),
    ] = None
    average: Annotated[
        int | None,
        typer.Option(help="Of super-resolution: samples of each item, for mean and spread [2]."),
    ] = None
    seed: Seed = 0


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    data: Annotated[
        str | None,
        typer.Argument(help="Real data to compare with [default: the training data]."),
    ] = None,
    n: Annotated[int, typer.Option("-n", max=10**7, help="Number of samples.")] = 5000,
    out: Annotated[
        Path | None, typer.Option(help="Output directory [default: RUN/evaluation].")
    ] = None,
    *,
    compared: Compared,
    sampling: Sampling,
    opening: Opening,
) -> None:
    """Measure quality and diversity of samples; detect copies.

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
