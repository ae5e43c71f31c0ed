"""Stop in an orderly way on a signal."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

WATCHED = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)
]
"""Ctrl-C; what torchrun, batch systems and ``kill`` send; what Slurm can be told to send before."""


class StopSignals:
    """While entered, the first of these signals sets ``received`` instead of ending the process.

    A second one acts as it would have without this: nothing is half-written, since files are
    renamed into place. SIGUSR1 is a warning that does not count: the SIGTERM that batch systems
    send some time after it is the first. Outside the main thread, where Python takes no signals,
    nothing of this happens.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Self:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in WATCHED}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        if self.received.name == "SIGUSR1":
            return
        for watched, handler in self._before.items():
            signal.signal(watched, handler)  # type: ignore[arg-type]
