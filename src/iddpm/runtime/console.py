"""Standard output and progress bars."""

import unicodedata

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


def printable(text: str) -> str:
    """Return text with its control characters, but newlines and tabs, as ``\\x1b``.

    Names of files and classes may hold escapes that would command the terminal.
    """
    return "".join(
        f"\\x{ord(c):02x}" if unicodedata.category(c) == "Cc" and c not in "\n\t" else c
        for c in text
    )
