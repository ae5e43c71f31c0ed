"""Orderly stop on a signal."""

import signal
import threading
from types import FrameType
from typing import Self

WATCHED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]
"""Ctrl-C; the signal of torchrun, batch systems and ``kill``; Slurm's optional early signal."""


class StopSignals:
    """A context in which the first such signal sets ``received`` instead of ending the process.

    A second one has its usual effect; files are renamed into place, so none is incomplete. SIGUSR1
    is a warning and does not count: the SIGTERM that batch systems send later is the first. Outside
    the main thread, where Python handles no signals, it does nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in WATCHED}
        return self

    def __exit__(self, *_: object) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if self.received.name == "SIGUSR1":
            return
        for watched, handler in self._before.items():
            signal.signal(watched, handler)  # type: ignore[arg-type]
