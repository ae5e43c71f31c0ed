"""``iddpm tune``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Opening
from iddpm.cli.options import Seed


def tune(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    n: Annotated[int, typer.Option("-n", max=10**7, help="Samples of each method.")] = 1000,
    evaluations: Annotated[
        str, typer.Option(help="Numbers of network evaluations to choose for.")
    ] = "5,10,20",
    features: Annotated[
        str,
        typer.Option(
            help="Features: pca, inception, the directory of a classifier, or an .onnx or "
            ".safetensors file."
        ),
    ] = "pca",
    weights: Annotated[Path | None, typer.Option(help="Weights of inception.")] = None,
    seed: Seed = 0,
    *,
    opening: Opening,
) -> None:
    """Measure which sampler and timesteps are best for a run; --sampler auto then uses them.

    Example: iddpm tune runs/demo --evaluations 5,10 && iddpm sample runs/demo --steps 10
    """
    from iddpm.tasks.tune import TuneRequest
    from iddpm.tasks.tune import tune as measure

    try:
        counts = [int(part) for part in evaluations.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"--evaluations {evaluations!r} is not a list such as 5,10"
        ) from None
    measure(opening.open(run), TuneRequest(n, counts, features, weights, seed))
