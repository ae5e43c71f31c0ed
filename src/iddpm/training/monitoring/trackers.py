"""Trackers of a run's records: TensorBoard and Weights & Biases.

Neither can delay or end a run: a tracker that fails is dropped with a warning (see
:class:`~iddpm.training.monitoring.log_files.LogFiles`), and network access has a thread of its
own.
"""

import os
import queue
import socket
import threading
import time
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from iddpm.runtime.atomic_files import write_text
from iddpm.training.monitoring.log_files import Tracker

NOT_CURVES = ("step", "time")
WANDB_ID = "wandb_id"
"""A file of the run directory: which of the project's runs it is."""
QUEUE = 1000
"""Records that may wait for a slow network."""
PATIENCE = 20.0
"""Seconds that an ending run waits for its last records to leave."""


def check_trackers(*, tensorboard: bool, wandb: str | None) -> None:
    """Raise ValueError if a requested tracker is not installed."""
    if tensorboard and find_spec("tensorboard") is None:
        raise ValueError(
            "training.tensorboard=true needs TensorBoard: pip install 'iddpm[tensorboard]'"
        )
    if wandb is not None and find_spec("wandb") is None:
        raise ValueError(
            f"training.wandb={wandb} needs Weights & Biases: pip install 'iddpm[wandb]'"
        )


def open_trackers(
    directory: Path,
    start_step: int,
    *,
    tensorboard: bool,
    wandb: str | None,
    settings: Mapping[str, Any],
) -> list[Tracker]:
    """Open the requested trackers; one that fails is left out with a warning.

    Args:
        directory: the run directory.
        start_step: steps taken before.
        tensorboard: write event files to ``tensorboard/``.
        wandb: the project of Weights & Biases; None for none.
        settings: of the run, to be shown there.
    """
    trackers: list[Tracker] = []
    try:
        if tensorboard:
            trackers.append(TensorBoard(directory / "tensorboard", start_step))
    except OSError as error:
        warnings.warn(f"TensorBoard gets no records of this run: {error}", stacklevel=2)
    if wandb is not None:
        trackers.append(WeightsAndBiases(directory, wandb, settings))
    return trackers


def curves_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a record that are curves over the steps."""
    return {
        name: value
        for name, value in record.items()
        if isinstance(value, int | float) and name not in NOT_CURVES
    }


class TensorBoard:
    """Event files of TensorBoard; each record is written at once.

    The library's own writer has a thread for it, which prints a traceback when the disk is full.

    Args:
        directory: where they go.
        start_step: steps taken before; later events of an earlier session are hidden.
    """

    name = "TensorBoard"

    def __init__(self, directory: Path, start_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        directory.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = (directory / name).open("xb", buffering=0)
        self._records = RecordWriter(self._file)
        self._event, self._summary = Event, Summary
        first = start_step + 1
        self._add(step=first, file_version="brain.Event:2")
        self._add(step=first, session_log=SessionLog(status=SessionLog.START))

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a point to every curve."""
        points = [
            self._summary.Value(tag=name, simple_value=value)
            for name, value in curves_of(record).items()
        ]
        self._add(step=record["step"], summary=self._summary(value=points))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _add(self, **content: Any) -> None:
        event = self._event(wall_time=time.time(), **content)
        self._records.write(event.SerializeToString())


class WeightsAndBiases:
    """A run of a Weights & Biases project; a resumed run continues it.

    Their library opens connections and waits for a server, so all of that happens in a thread:
    training passes its records on and continues.

    Args:
        directory: the run directory; its name is the run's.
        project: the project's name.
        settings: shown as the run's configuration.
        patience: seconds that :meth:`close` waits.
    """

    name = "Weights & Biases"

    def __init__(
        self,
        directory: Path,
        project: str,
        settings: Mapping[str, Any],
        patience: float = PATIENCE,
    ) -> None:
        self._patience = patience
        self._records: queue.Queue[dict[str, float] | None] = queue.Queue(QUEUE)
        self._error: Exception | None = None
        self._thread = threading.Thread(
            target=self._send, args=(directory, project, dict(settings)), daemon=True
        )
        self._thread.start()

    def write(self, record: Mapping[str, Any]) -> None:
        """Pass a record on; raises the error of an earlier one."""
        if self._error is not None:
            raise self._error
        self._records.put_nowait(curves_of(record) | {"step": record["step"]})

    def close(self) -> None:
        """Wait for the last records for a limited time."""
        try:
            self._records.put_nowait(None)
            self._thread.join(self._patience)
        except queue.Full:
            pass
        if self._error is not None:
            raise self._error
        if self._thread.is_alive():
            raise TimeoutError(f"the last ones were not sent within {self._patience:g} s")

    def _send(self, directory: Path, project: str, settings: dict[str, Any]) -> None:
        try:
            import wandb

            known = directory / WANDB_ID
            run = wandb.init(
                project=project,
                name=directory.name,
                dir=str(directory),
                config=settings,
                id=known.read_text(encoding="utf-8").strip() if known.is_file() else None,
                resume="allow",
            )
            write_text(known, run.id + "\n")
            # Not the library's count of calls: a run that goes back repeats some steps.
            run.define_metric("*", step_metric="step")
            while (record := self._records.get()) is not None:
                run.log(record)
            run.finish()
        except Exception as error:
            self._error = error
