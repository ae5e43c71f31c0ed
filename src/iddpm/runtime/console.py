"""Where things are told, and a bar for what takes long."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def open_console(speaks: bool = True) -> Console:
    """Return standard output for plain lines; silent unless this process ``speaks``."""
    return Console(highlight=False, soft_wrap=True, quiet=not speaks)


def progress_bar(console: Console, what: str) -> Progress:
    """Return a bar that shows itself on a terminal and nothing elsewhere; it leaves no trace."""
    return Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=console.quiet or not console.is_terminal,
    )
