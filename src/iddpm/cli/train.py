"""``iddpm train``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iddpm.cli.option_groups import Training
from iddpm.cli.options import Network

if TYPE_CHECKING:
    from iddpm.tasks.start import Start


@dataclass(frozen=True)
class Starting:
    """How the weights are initialized."""

    init_from: Annotated[
        Path | None, typer.Option(help="A run whose network and weights training starts from.")
    ] = None
    init_classes: Annotated[
        str | None,
        typer.Option(
            help="Classes of that run that become the classes of the data, in their order, such as "
            "207,281 [default: those with the same names, otherwise the first]."
        ),
    ] = None
    init_partial: Annotated[
        bool,
        typer.Option("--init-partial", help="Start weights of another shape with random values."),
    ] = False

    def start(self) -> "Start | None":
        """Return the run to start from; ValueError if an option needs --init-from."""
        from iddpm.tasks.start import Start

        names = map(str.strip, (self.init_classes or "").split(","))
        classes = tuple(name for name in names if name)
        if self.init_from is not None:
            return Start(self.init_from, classes, self.init_partial)
        if classes or self.init_partial:
            raise ValueError(
                "--init-classes and --init-partial need --init-from, which names a run"
            )
        return None


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            help="A file or folder of pictures, arrays, signals, sounds, volumes, clips, .tar "
            "shards or .parquet tables, or mnist5k; not needed with --resume."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The run directory [default: runs/NAME].")
    ] = None,
    epochs: Annotated[
        float | None, typer.Option(help="Length of training in epochs, instead of --steps.")
    ] = None,
    network: Network = None,
    *,
    starting: Starting,
    training: Training,
) -> None:
    """Train a model; training can be stopped and resumed.

    Example: iddpm train photos/ -s data.image_size=64 -s training.batch_size=32 --out runs/photos
    """
    from iddpm.tasks.train import train_until_stop
    from iddpm.tasks.training_setup import TrainRequest

    length = [] if epochs is None else [f"training.epochs={epochs}"]
    request = TrainRequest(
        data,
        network=network,
        config=training.config,
        settings=[*training.assignments(), *length],
        out=out,
        resume=training.resume,
        accept_data=training.accept_data,
        init_from=starting.start(),
    )
    _, reason = train_until_stop(request)
    raise typer.Exit(reason.exit_status)
