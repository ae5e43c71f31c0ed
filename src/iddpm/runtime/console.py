"""Standard output and progress bars."""

import unicodedata
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _PrintableConsole(Console):
    """A console that prints the control characters of names as escapes."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


def open_console(speaks: bool = True, *, stderr: bool = False) -> Console:
    """Return standard output, or standard error, for plain lines: brackets and colons stay.

    Silent unless this process ``speaks``.
    """
    return _PrintableConsole(
        highlight=False, markup=False, emoji=False, soft_wrap=True, quiet=not speaks, stderr=stderr
    )


def say(text: str, end: str = "\n") -> None:
    """Print a text that may hold names on standard output; see :func:`printable`."""
    print(printable(text), end=end, flush=True)


def progress_bar(console: Console, what: str) -> Progress:
    """Return a progress bar for terminals, removed at the end; elsewhere it shows nothing."""
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
    """Return text with its control characters, but newlines and tabs, as escapes such as ``\\x1b``.

    Names of files and classes may contain characters that control the terminal, bytes that are not
    text, and marks that change the direction of text.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(c) if _commands(c) else c for c in text)


def _commands(c: str) -> bool:
    return (unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t") or c in _TURNS


def _escaped(c: str) -> str:
    return f"\\x{ord(c):02x}" if ord(c) < 256 else f"\\u{ord(c):04x}"
