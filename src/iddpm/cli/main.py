"""The command line: collects the commands and prints errors in one line."""

import os
import re
import sys
import warnings
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import typer

from iddpm import cli
from iddpm.cli.option_groups import with_groups
from iddpm.config.validation_message import shortened
from iddpm.runtime.console import printable
from iddpm.runtime.errors import SHARED, RunFailed, in_words

app = typer.Typer(
    name="iddpm",
    help="Train, sample and measure diffusion models from scratch on your own data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: it stays readable in a pipe and answers faster
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: iddpm train photos/ -s data.image_size=64 --out runs/photos",
)
ORDER = (
    "train",
    "distill",
    "sample",
    "interpolate",
    "inpaint",
    "edit",
    "restore",
    "upscale",
    "evaluate",
    "nearest",
    "tune",
    "likelihood",
    "train_classifier",
    "import_",
    "export",
    "info",
    "doctor",
    "ui",
    "demo",
    "inspect",
)
"""Order of the commands in ``--help``; others follow."""
UsageError: Any = typer.BadParameter.__base__
"""Of click, which newer versions of typer carry inside themselves."""
LONGEST_LINE = 400
"""Characters of a message."""
TOGETHER = ("train", "distill", "train-classifier", "sample", "likelihood", "evaluate")
"""Commands that several processes share; other commands run in one process."""


def _add_commands() -> None:
    """Add what each module of :mod:`iddpm.cli` defines.

    A command is the function of its module's name (``import_`` where Python keeps the name for
    itself); the first paragraph of its docstring is its help, the rest an example. A module may
    define a ``group`` of commands instead.
    """
    names = {module.name for module in iter_modules(cli.__path__)} - {
        "main",
        "options",
        "option_groups",
    }
    places = {name: place for place, name in enumerate(ORDER)}
    for name in sorted(names, key=lambda name: (places.get(name, len(places)), name)):
        module = import_module(f"iddpm.cli.{name}")
        if hasattr(module, "group"):
            app.add_typer(module.group)
            continue
        command = getattr(module, name)
        summary, _, example = (command.__doc__ or "").partition("\n\n")
        title = name.rstrip("_").replace("_", "-")
        app.command(title, help=summary, epilog=example.strip())(with_groups(command))


_add_commands()


@app.callback(invoke_without_command=True)
def _main(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from iddpm import __version__

        typer.echo(__version__)
        raise typer.Exit
    command = context.invoked_subcommand
    if command is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)
    if command not in TOGETHER and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        error = ValueError(
            f"iddpm {command} runs in one process: start it without torchrun (only train, distill, "
            "train-classifier, sample, likelihood and evaluate use several)"
        )
        error.add_note(SHARED)
        raise error


@cache  # a second call in the same process parses with what the first one built
def _command() -> Any:
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 2 bad input, 1 a run failed, 130/143/138 stopped."""
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit status.

    Bad input becomes one sentence on standard error; with IDDPM_DEBUG=1 the traceback is shown.
    """
    warnings.showwarning = _show_warning  # type: ignore[assignment]
    try:
        status: Any = _command()(arguments, standalone_mode=False)
        return status if isinstance(status, int) else 0
    except UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            typer.echo(error.format_message(), err=True)
        else:
            _say(_usage(error))
        return 2
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0
    except typer.Abort:
        return 1
    except (ValueError, OSError) as error:
        if os.environ.get("IDDPM_DEBUG"):
            raise
        _say(error)
        return 2
    except MemoryError as error:
        if os.environ.get("IDDPM_DEBUG"):
            raise
        _say(MemoryError(f"out of memory ({str(error) or 'no memory is left'})"))
        return 1
    except RunFailed as error:
        if os.environ.get("IDDPM_DEBUG"):
            raise
        _say(error)
        return 1
    except KeyboardInterrupt:
        typer.echo("stopped", err=True)
        return 130


def _say(error: Exception) -> None:
    """Print an error; of several processes with the same error only the first prints it."""
    shared = SHARED in getattr(error, "__notes__", ())
    if not shared or os.environ.get("RANK", "0") == "0":
        typer.echo(printed(f"error: {in_words(error)}"), err=True)


def printed(text: str) -> str:
    """Return a message as it is printed: no control characters, long values and lines cut."""
    words = re.sub(r"\S{201,}", lambda word: shortened(word[0]), printable(text))
    return words if len(words) <= LONGEST_LINE else shortened(words, LONGEST_LINE)


def _usage(error: Any) -> ValueError:
    """Return wrong use of the command line as one sentence, the same on every rank."""
    command = error.ctx.command_path if error.ctx is not None else "iddpm"
    reason = error.format_message().replace("\n", " ").rstrip(".")
    wrong = ValueError(f"{shortened(reason)}: see {command} --help")
    wrong.add_note(SHARED)
    return wrong


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    if issubclass(category, UserWarning):
        typer.echo(printed(f"warning: {message}"), err=True)
