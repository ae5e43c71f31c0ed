"""``iddpm train-classifier``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.option_groups import Training
from iddpm.runtime.console import say


def train_classifier(
    data: Annotated[
        str | None,
        typer.Argument(help="Data with labels, as for train; not needed with --resume."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The output directory [default: runs/NAME_classifier].")
    ] = None,
    *,
    training: Training,
) -> None:
    """Train a classifier for evaluation and guidance.

    Example: iddpm train-classifier mnist5k --out runs/classifier
    """
    from iddpm.builders import default_run_directory
    from iddpm.runs.classifier import SETTINGS, held_out_accuracy, load_classifier
    from iddpm.runtime.atomic_files import write_json
    from iddpm.tasks.train import train_until_stop
    from iddpm.tasks.training_setup import TrainRequest

    if out is None and data is not None:
        named = default_run_directory(data)
        out = named.with_name(f"{named.name}_classifier")
    request = TrainRequest(
        data,
        config=training.config,
        base=SETTINGS,
        settings=["task=classification", *training.assignments()],
        out=out,
        resume=training.resume,
        accept_data=training.accept_data,
    )
    run, reason = train_until_stop(request)
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if first and not reason.exit_status:
        classifier = load_classifier(run.directory, str(run.device))
        shares = held_out_accuracy(classifier)
        accuracies = ", ".join(f"{100 * share:.2f} % at t={t}" for t, share in shares.items())
        say(f"accuracy on held-out items: {accuracies or 'nothing was held out'}")
        path = run.directory / "accuracy.json"
        say(f"wrote {write_json(path, {'held_out': shares, 'hash': classifier.hash})}")
    raise typer.Exit(reason.exit_status)
