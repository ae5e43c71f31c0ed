"""The process that computes: it takes jobs from the server, one by one, and keeps a model open.

It talks to the server in JSON and in PNG over a pipe. It ends when the server is gone; a job that
runs then ends at its next step, and files are renamed into place as always.
"""

import io
import json
import os
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from iddpm.runtime.console import WatchedConsole
from iddpm.runtime.errors import RunFailed, in_words
from iddpm.ui.actions.action import Action, Bench
from iddpm.ui.actions.actions import ACTIONS

if TYPE_CHECKING:
    from torch import Tensor

    from iddpm.runs.run import Run

PACE = 0.2
"""Seconds between two pictures of the same samples, and between two reports of progress."""
SHOWN = 64
"""Samples of a batch that are shown while they are drawn."""
WIDEST = 512
"""Rows, and columns, that are shown of a picture or volume on its way."""


class JobCancelledError(Exception):
    """The job was cancelled, or the server is gone."""


class Worker:
    """Works on jobs from a pipe until it closes."""

    def __init__(self, connection: Connection, root: Path) -> None:
        self.connection = connection
        self.root = root
        self._gone = False
        self._cancelled = 0
        """The number of the job that was cancelled last."""
        self._number = 0
        self._jobs: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        self._open: tuple[Any, Run] | None = None
        self._shown = 0.0
        self._reported = 0.0

    def work(self) -> None:
        """Take jobs until there are no more."""
        threading.Thread(target=self._listen, daemon=True).start()
        while (job := self._jobs.get()) is not None:
            self._do(job)

    def _listen(self) -> None:
        """Take what the server says; its end cancels the job and ends the process."""
        try:
            while True:
                message = json.loads(self.connection.recv_bytes())
                if message["do"] == "cancel":
                    self._cancelled = message["number"]
                else:
                    self._jobs.put(message)
        except (EOFError, OSError):
            self._gone = True
            self._jobs.put(None)

    def _stop_if_cancelled(self) -> None:
        if self._gone or self._cancelled == self._number:
            raise JobCancelledError

    def _do(self, job: dict[str, Any]) -> None:
        self._number = job["number"]
        self._shown = self._reported = 0.0
        try:
            action = ACTIONS[job["kind"]].model_validate(job["values"])
            console = WatchedConsole(self._line, self._progress)
            bench = Bench(self.root, console, self._open_run, self._show)
            paths = self._perform(action, bench, Path(job["run"]))
        except JobCancelledError:
            self._say("cancelled")
        except (ValueError, OSError, RunFailed) as error:
            self._say("failed", message=in_words(error) or type(error).__name__)
        except MemoryError:
            self._say("failed", message="out of memory")
        except Exception as error:  # a fault of ours ends the job and not the queue
            traceback.print_exc()
            self._forget()
            self._say("failed", message=f"{type(error).__name__}: {error}")
        else:
            self._say("done", files=[str(path) for path in paths])

    def _perform(self, action: Action, bench: Bench, run: Path) -> list[Path]:
        self._progress(0, None)
        return action.perform(bench, run)

    def _say(self, event: str, **values: Any) -> None:
        try:
            self.connection.send_bytes(json.dumps({"event": event, **values}).encode())
        except OSError:
            raise JobCancelledError from None

    def _line(self, text: str) -> None:
        self._say("line", text=text[:2_000])

    def _progress(self, done: float, total: float | None) -> None:
        self._stop_if_cancelled()
        now = time.monotonic()
        if now - self._reported >= PACE or done in (0, total):
            self._reported = now
            self._say("progress", done=done, total=total)

    def _show(self, number: int, x: "Tensor") -> None:
        """Send a picture of the state of some samples, not too often."""
        self._stop_if_cancelled()
        now = time.monotonic()
        if number and now - self._shown < PACE:
            return
        self._shown = now
        from iddpm.data.writers.image_files import grid_picture

        x = x[:SHOWN]
        if x.dim() > 3:
            down, across = (-(-n // WIDEST) for n in x.shape[-2:])
            x = x[..., ::down, ::across]
        file = io.BytesIO()
        grid_picture(x.float().cpu()).save(file, "PNG", compress_level=1)
        self._say("picture", step=number)
        try:
            self.connection.send_bytes(file.getvalue())
        except OSError:
            raise JobCancelledError from None

    def _open_run(self, directory: Path, **options: Any) -> "Run":
        """Return a run, the one that is open where it is the same and has not trained on."""
        from iddpm.runs.run import load
        from iddpm.ui.run_index import stamp

        state = (stamp(directory / "checkpoints"), stamp(directory / "model.safetensors"))
        key = (directory, sorted(options.items()), state, stamp(directory / "config.yaml"))
        if self._open is None or self._open[0] != key:
            self._forget()
            self._open = (key, load(directory, **options))
        return self._open[1]

    def _forget(self) -> None:
        """Let go of the model, and of the memory of the device that it took."""
        self._open = None
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()


def run_worker(connection: Connection, root: str) -> None:
    """Be the process: what the server starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this
    try:
        Worker(connection, Path(root)).work()
    except JobCancelledError:  # the server went while a job was ending
        pass
    finally:
        sys.stdout.flush()
        os._exit(0)  # threads of libraries keep nothing that is worth waiting for
