"""Standard output and progress bars."""

import unicodedata
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class _PrintableConsole(Console):
    """A console that prints the control characters of names as escapes."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


def open_console(speaks: bool = True) -> Console:
    """Return standard output for plain lines; silent unless this process ``speaks``."""
    return _PrintableConsole(highlight=False, soft_wrap=True, quiet=not speaks)


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
