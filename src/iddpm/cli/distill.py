"""``iddpm distill``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Training
from iddpm.cli.options import Network


def distill(
    run: Annotated[Path, typer.Argument(help="The run directory of the teacher.")],
    out: Annotated[
        Path | None, typer.Option(help="The run directory to make [default: RUN_distilled].")
    ] = None,
    guidance: Annotated[
        str,
        typer.Option(
            help="Scale of classifier-free guidance that becomes part of the model; or a range "
            "such as 1:4, from which iddpm sample --guidance chooses."
        ),
    ] = "1",
    features: Annotated[
        str | None,
        typer.Option(
            help="Features of the Frechet distance during training: pca, or the directory of a "
            "classifier [default: RUN/classifier if it exists, otherwise pca]."
        ),
    ] = None,
    network: Network = None,
    *,
    training: Training,
) -> None:
    """Make a model that samples in 1, 2 or 4 evaluations from a trained run.

    Example: iddpm distill runs/demo --out runs/few && iddpm sample runs/few --steps 1
    """
    from iddpm.config.distillation import read_scale
    from iddpm.tasks.distill import distillation_request
    from iddpm.tasks.train import train_until_stop
    from iddpm.tasks.training_setup import TrainRequest

    wanted = TrainRequest(
        network=network,
        config=training.config,
        settings=training.assignments(),
        out=out,
        resume=training.resume,
        accept_data=training.accept_data,
    )
    scale = read_scale(guidance)
    request = distillation_request(run, wanted, guidance=scale, features=features)
    _, reason = train_until_stop(request)
    raise typer.Exit(reason.exit_status)
