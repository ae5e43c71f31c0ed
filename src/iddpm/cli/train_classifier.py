"""``iddpm train-classifier``."""

import os
from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import AcceptData, Threads
from iddpm.runtime.console import say


def train_classifier(
    data: Annotated[
        str | None,
        typer.Argument(help="Data with labels, as for train; not needed with --resume."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="A YAML file of settings.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="A setting as key=value; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The directory [default: runs/NAME_classifier].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    accept_data: AcceptData = False,
    steps: Annotated[int | None, typer.Option(help="Length of the run in steps.")] = None,
    max_time: Annotated[
        str | None, typer.Option(help="Stop and save after 90s, 30m, 2h or 1d.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")] = None,
    threads: Threads = None,
) -> None:
    """Train a classifier on noisy and clean items, for evaluation and for guidance.

    Example: iddpm train-classifier mnist5k --out runs/classifier
    """
    from iddpm.builders import default_run_directory
    from iddpm.runs.classifier import SETTINGS, held_out_accuracy, load_classifier
    from iddpm.runtime.atomic_files import write_json
    from iddpm.tasks.train import train_until_stop

    if out is None and data is not None:
        named = default_run_directory(data)
        out = named.with_name(f"{named.name}_classifier")
    flags = {"steps": steps, "max_time": max_time, "device": device, "threads": threads}
    given = [f"training.{name}={value}" for name, value in flags.items() if value is not None]
    run, reason = train_until_stop(
        data,
        config=config,
        base=SETTINGS,
        settings=["task=classification", *(settings or []), *given],
        out=out,
        resume=resume,
        accept_data=accept_data,
    )
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
    if first and not reason.exit_status:
        classifier = load_classifier(run.directory, str(run.device))
        shares = held_out_accuracy(classifier)
        told = ", ".join(f"{100 * share:.2f} % at t={t}" for t, share in shares.items())
        say(f"accuracy on held-out items: {told or 'nothing was held out'}")
        path = run.directory / "accuracy.json"
        say(f"wrote {write_json(path, {'held_out': shares, 'hash': classifier.hash})}")
    raise typer.Exit(reason.exit_status)
