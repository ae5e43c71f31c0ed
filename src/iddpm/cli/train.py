"""``iddpm train``."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.cli.options import AcceptData, Network, Threads


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder of images, a .npy or .npz file, .tar shards, a saved Hugging Face "
            "dataset, .parquet files, or mnist5k; not needed with --resume."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="A YAML file of settings.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="A setting as key=value; may be repeated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory [default: runs/NAME].")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    accept_data: AcceptData = False,
    init_from: Annotated[
        Path | None, typer.Option(help="A run whose weights, and network, to start from.")
    ] = None,
    init_classes: Annotated[
        str | None,
        typer.Option(
            help="Its classes that those of the data start as, such as 207,281 [default: those of "
            "the same names, else the first]."
        ),
    ] = None,
    init_partial: Annotated[
        bool, typer.Option("--init-partial", help="Start at random what does not fit.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Length of the run in steps.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Length in passes over the data.")] = None,
    max_time: Annotated[
        str | None, typer.Option(help="Stop and save after 90s, 30m, 2h or 1d.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps or auto.")] = None,
    network: Network = None,
    threads: Threads = None,
) -> None:
    """Train a model; stops at the last step or on a signal, always with a checkpoint.

    Example: iddpm train photos/ -s data.image_size=64 -s training.batch_size=32 --out runs/photos
    """
    from iddpm.tasks.start import Start
    from iddpm.tasks.train import train_until_stop

    classes = tuple(name.strip() for name in (init_classes or "").split(",") if name.strip())
    if init_from is None and (classes or init_partial):
        raise ValueError("--init-classes and --init-partial go with --init-from: name a run there")
    start = None if init_from is None else Start(init_from, classes, init_partial)
    flags = {
        "steps": steps,
        "epochs": epochs,
        "max_time": max_time,
        "device": device,
        "threads": threads,
    }
    given = [f"training.{name}={value}" for name, value in flags.items() if value is not None]
    _, reason = train_until_stop(
        data,
        network=network,
        config=config,
        settings=[*(settings or []), *given],
        out=out,
        resume=resume,
        accept_data=accept_data,
        init_from=start,
    )
    raise typer.Exit(reason.exit_status)
