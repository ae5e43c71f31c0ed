"""``iddpm data``: inspect data before training on it."""

from pathlib import Path
from typing import Annotated

import typer

from iddpm.runtime.console import say

group = typer.Typer(
    name="data",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@group.callback()
def _data() -> None:
    """Inspect data before training on it."""


@group.command(
    help="Show how data is read and preprocessed, the memory for training, and a picture.",
    epilog="Example: iddpm data inspect photos/ -s data.image_size=64 --out photos.png",
)
def inspect(
    path: Annotated[str, typer.Argument(help="Data, as for iddpm train.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("-s", "--set", help="A setting as key=value; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Output picture of some items.")] = Path("inspect.png"),
) -> None:
    """Describe data; see `iddpm.tasks.inspect`."""
    from iddpm.tasks.inspect import inspect

    for line in inspect(path, settings or [], out):
        say(line)
