"""Standard output and progress bars."""

import io
import unicodedata
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class _PrintableConsole(Console):
    """A console for plain lines, in notebooks too: brackets, colons and long lines stay.

    The control characters of names are printed as escapes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(
            force_jupyter=False,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
            **options,
        )

    @property
    def is_terminal(self) -> bool:
        """Whether lines can be drawn over: environments that only take colors ask as terminals."""
        return bool(getattr(self.file, "isatty", bool)())

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(printable(o) if isinstance(o, str) else o for o in objects), **options)


def open_console(speaks: bool = True, *, stderr: bool = False) -> Console:
    """Return standard output, or standard error; silent unless this process ``speaks``."""
    return _PrintableConsole(quiet=not speaks, stderr=stderr)


class WatchedConsole(_PrintableConsole):
    """A console for who is no terminal: lines and progress are handed to functions.

    Whatever ``on_progress`` raises ends the work, at the next step that is reported.

    Args:
        on_line: called with every line that is printed.
        on_progress: called with the steps done and their number, None where it is not known.
    """

    def __init__(
        self, on_line: Callable[[str], None], on_progress: Callable[[float, float | None], None]
    ) -> None:
        super().__init__(file=io.StringIO())
        self.on_line = on_line
        self.on_progress = on_progress

    def print(self, *objects: Any, **options: Any) -> None:
        """Hand on the lines of a text."""
        for line in " ".join(map(str, objects)).splitlines():
            self.on_line(printable(line))


class _WatchedProgress(Progress):
    """A bar that nobody sees and that reports every step."""

    def __init__(self, console: WatchedConsole) -> None:
        super().__init__(console=console, disable=True, auto_refresh=False)
        self._report = console.on_progress

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._report_all()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._report_all()

    def add_task(self, *arguments: Any, **options: Any) -> TaskID:
        task = super().add_task(*arguments, **options)
        self._report_all()
        return task

    def _report_all(self) -> None:
        totals = [task.total for task in self.tasks]
        total = None if None in totals else sum(t for t in totals if t is not None)
        self._report(sum(task.completed for task in self.tasks), total)


def say(text: str, end: str = "\n") -> None:
    """Print a text that may hold names on standard output; see :func:`printable`."""
    print(printable(text), end=end, flush=True)


def progress_bar(console: Console, what: str) -> Progress:
    """Return a progress bar for terminals, removed at the end; elsewhere it shows nothing.

    That of a :class:`WatchedConsole` calls its functions.
    """
    if isinstance(console, WatchedConsole):
        return _WatchedProgress(console)
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
