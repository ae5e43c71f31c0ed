"""The queue of jobs: one process for each device works on them in their order."""

import itertools
import json
import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Condition, RLock, Thread
from typing import Any

from iddpm.ui.actions.action import Action
from iddpm.ui.worker import run_worker

PATIENCE = 20.0
"""Seconds for a job that was cancelled to end by itself; after that its process is ended."""
ENDING = 3.0
"""The same when the server ends."""
MOST_WAITING = 100
MOST_KEPT = 200
"""Jobs that have ended and are still listed."""
MOST_LINES = 200

ENDED = ("done", "failed", "cancelled")


@dataclass
class Job:
    """A job and what has become of it.

    Attributes:
        number: from 1.
        action: what is to be done.
        run: the directory of its run.
        state: ``waiting``, ``running``, ``done``, ``failed`` or ``cancelled``.
        done, total: steps; the total is None where it is not known.
        message: why it failed.
        lines: what the command prints.
        files: what was written.
        picture: the newest picture of the samples on their way, PNG.
        pictures: how many there were.
        version: rises with every change.
    """

    number: int
    action: Action
    run: Path
    state: str = "waiting"
    done: float = 0
    total: float | None = None
    message: str = ""
    lines: list[str] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    picture: bytes = b""
    pictures: int = 0
    version: int = 0
    queued_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more will become of it."""
        return self.state in ENDED

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1."""
        return None if not self.total else min(1.0, self.done / self.total)


class JobQueue:
    """Jobs, those that wait and those that have ended.

    Args:
        root: the directory of the runs.
        on_change: called, from any thread, with a job that has changed.
        work: what a process runs.
    """

    def __init__(
        self,
        root: Path,
        on_change: Callable[[Job], None],
        work: Callable[[Connection, str], None] = run_worker,
    ) -> None:
        self.root = root
        self.on_change = on_change
        self.work = work
        self.changed = Condition(RLock())
        self._numbers = itertools.count(1)
        self._jobs: dict[int, Job] = {}
        self._devices: dict[str, _Device] = {}
        self.closed = False

    def add(self, action: Action, run: Path) -> Job:
        """Put a job at the end of the queue of its device.

        Raises:
            ValueError: too many are waiting, or the server is ending.
        """
        with self.changed:
            waiting = sum(job.state == "waiting" for job in self._jobs.values())
            if waiting >= MOST_WAITING or self.closed:
                raise ValueError(f"{waiting} jobs are waiting: let some of them end first")
            job = Job(next(self._numbers), action, run)
            self._jobs[job.number] = job
            ended = [number for number, other in self._jobs.items() if other.ended]
            for number in ended[:-MOST_KEPT]:
                del self._jobs[number]
            if action.device not in self._devices:
                self._devices[action.device] = _Device(self, action.device)
            self.changed.notify_all()
        self.on_change(job)
        return job

    def all(self) -> list[Job]:
        """Return all jobs that are known, the newest first."""
        with self.changed:
            return list(reversed(self._jobs.values()))

    def active(self) -> int:
        """Return how many jobs wait or run."""
        with self.changed:
            return sum(not job.ended for job in self._jobs.values())

    def get(self, number: int) -> Job | None:
        """Return a job by its number."""
        with self.changed:
            return self._jobs.get(number)

    def next_for(self, device: str) -> Job | None:
        """Return the job of a device that has waited longest."""
        waiting = (job for job in self._jobs.values() if job.state == "waiting")
        return next((job for job in waiting if job.action.device == device), None)

    def cancel(self, job: Job) -> None:
        """Take a job out of the queue, or end it."""
        with self.changed:
            if job.state == "waiting":
                self.end(job, "cancelled")
            elif job.state == "running":
                self._devices[job.action.device].cancel()

    def start(self, job: Job) -> None:
        """Note that a job runs."""
        with self.changed:
            job.state, job.started_at = "running", time.time()
        self.note(job)

    def end(self, job: Job, state: str, message: str = "") -> None:
        """Note what has become of a job."""
        with self.changed:
            job.state, job.message, job.ended_at = state, message, time.time()
            self.changed.notify_all()
        self.note(job)

    def note(self, job: Job) -> None:
        """Tell of a change."""
        job.version += 1
        self.on_change(job)

    def close(self) -> None:
        """End all processes; a job that runs may reach the end of its step."""
        with self.changed:
            self.closed = True
            for job in self._jobs.values():
                if job.state == "waiting":
                    self.end(job, "cancelled")
            devices = list(self._devices.values())
            self.changed.notify_all()
        for device in devices:
            device.close()


class _Device:
    """A thread of the server and the process that works for it."""

    def __init__(self, queue: JobQueue, name: str) -> None:
        self.queue = queue
        self.name = name
        self.process: Any = None
        self.connection: Connection | None = None
        self._job: Job | None = None
        self._cancelled_at: float | None = None
        self.thread = Thread(target=self._serve, name=f"jobs on {name}", daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            with self.queue.changed:
                while not self.queue.closed and self.queue.next_for(self.name) is None:
                    self.queue.changed.wait()
                job = self.queue.next_for(self.name)
                if self.queue.closed or job is None:
                    return
                self._cancelled_at = None
                self.queue.start(job)
            try:
                self._run(job)
            except (EOFError, OSError):
                self._lost(job)
            except (ValueError, KeyError, TypeError):  # no message of ours: its pipe is of no use
                self._lost(job, "said what nobody understands")

    def _run(self, job: Job) -> None:
        """Let the process do a job, and note what it says."""
        connection = self._connected()
        values = job.action.model_dump(mode="json")
        order = {"do": "job", "number": job.number, "kind": job.action.kind}
        order |= {"values": values, "run": str(job.run)}
        self._job = job
        connection.send_bytes(json.dumps(order).encode())
        if self._cancelled_at is not None:  # while the process was starting
            self.cancel()
        while not job.ended:
            while not connection.poll(0.5):
                self._check_patience()
            self._take(job, json.loads(connection.recv_bytes()), connection)

    def _check_patience(self) -> None:
        asked, patience = self._cancelled_at, ENDING if self.queue.closed else PATIENCE
        if asked is not None and time.monotonic() - asked > patience and self.process is not None:
            self.process.kill()
            self.process.join()

    def _take(self, job: Job, said: dict[str, Any], connection: Connection) -> None:
        event = said["event"]
        if event == "progress":
            job.done, job.total = said["done"], said["total"]
            self.queue.note(job)
        elif event == "picture":
            job.picture, job.pictures = connection.recv_bytes(), job.pictures + 1
            self.queue.note(job)
        elif event == "line":
            job.lines = [*job.lines, said["text"]][-MOST_LINES:]
        elif event == "done":
            job.files = [Path(name) for name in said["files"]]
            self.queue.end(job, "done")
        else:
            self.queue.end(job, event, said.get("message", ""))

    def _lost(self, job: Job, how: str = "") -> None:
        """Note that the process is gone; the next job gets a new one."""
        process, self.process, self.connection = self.process, None, None
        if process is not None:
            process.join(1)
            process.kill()
        if self._cancelled_at is not None:
            self.queue.end(job, "cancelled")
            return
        code = None if process is None else process.exitcode
        signal = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
        how = how or f"ended ({signal}), perhaps for lack of memory"
        message = f"the process that computed {how}; the queue goes on with a new one"
        self.queue.end(job, "failed", message)

    def _connected(self) -> Connection:
        if self.connection is None or not self.process.is_alive():
            spawn = multiprocessing.get_context("spawn")
            ours, theirs = spawn.Pipe()
            self.process = spawn.Process(
                target=self.queue.work, args=(theirs, str(self.queue.root)), name="iddpm ui worker"
            )
            self.process.start()
            theirs.close()
            self.connection = ours
        return self.connection

    def cancel(self) -> None:
        """Ask the process to end its job."""
        self._cancelled_at = time.monotonic()
        connection, job = self.connection, self._job
        if connection is not None and job is not None:
            with suppress(OSError):  # it is gone, which the thread notices
                connection.send_bytes(json.dumps({"do": "cancel", "number": job.number}).encode())

    def close(self) -> None:
        """End the process, after the step that it is at."""
        self.cancel()
        self.thread.join(2 * ENDING)
        if self.connection is not None:
            self.connection.close()
        if self.process is not None:
            self.process.join(ENDING)
            self.process.kill()
            self.process.join()
