"""Reading ahead in other processes, which may die, hang, or be sent the signals meant for all."""

import atexit
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from iddpm.runtime.errors import WorkerLost

CHECK_SECONDS = 1.0
"""How often to see whether the workers live, while waiting for them."""
CAUSES = {"SIGKILL": "running out of memory", "SIGBUS": "a full /dev/shm (docker: --shm-size)"}
"""What mostly lies behind a signal."""


def read_ahead(
    read: Callable[[int], Any],
    steps: Iterable[int],
    *,
    workers: int,
    timeout: float,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yield ``read(step)`` for one step after another, in their order.

    Args:
        read: what to do for a step; pickled where processes are spawned.
        steps: the steps.
        workers: processes that read ahead; at least 1.
        timeout: seconds to wait for a step before a worker counts as hung.
        pin_memory: hand over in page-locked memory what has a ``pin_memory``.

    Raises:
        WorkerLost: a worker ended or hangs.
        ValueError, OSError: what ``read`` raised.
    """
    loader: DataLoader[Any] = DataLoader(
        _Answers(read),
        batch_size=None,  # an element of this dataset is a batch already
        sampler=steps,
        num_workers=workers,
        collate_fn=_as_is,
        pin_memory=pin_memory,
        timeout=CHECK_SECONDS,
        # Else the loader draws from the global generator, and dropout would notice.
        generator=torch.Generator(),
    )
    others = set(active_children())
    with _signals_left_to_the_parent():
        iterator = iter(loader)
    processes = sorted(set(active_children()) - others, key=lambda process: process.pid or 0)
    kill = partial(_kill, processes)
    atexit.register(kill)  # Python would wait for them for ever, since they are deaf to SIGTERM
    try:
        while True:
            try:
                answer = _next(iterator, processes, timeout)
            except StopIteration:
                return
            if isinstance(answer, Exception):
                raise answer
            yield answer
    except WorkerLost:
        kill()
        raise
    finally:
        del iterator  # asks the workers to leave, and waits for them
        kill()
        atexit.unregister(kill)


def _next(iterator: Iterator[Any], processes: list[BaseProcess], timeout: float) -> Any:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return next(iterator)
        except RuntimeError as error:
            for number, process in enumerate(processes):
                if process.exitcode is not None:
                    raise WorkerLost(
                        f"data worker {number} of {len(processes)} "
                        f"{_ending(process.exitcode)}: continue with --resume; if it happens "
                        "again, use fewer data.workers or 0"
                    ) from None
            if not str(error).startswith("DataLoader timed out"):
                raise
            if time.monotonic() >= deadline:
                raise WorkerLost(
                    f"no data came from {len(processes)} workers in {timeout:g} seconds: check "
                    "that the disk with the data responds, and continue with --resume; a slow "
                    "disk needs a higher data.worker_timeout"
                ) from None


def _ending(code: int) -> str:
    if code >= 0:
        return f"exited with status {code}"
    name = signal.Signals(-code).name
    cause = f", usually because of {CAUSES[name]}" if name in CAUSES else ""
    return f"was killed by {name}{cause}"


def _kill(processes: list[BaseProcess]) -> None:
    for process in processes:
        if process.exitcode is None:
            process.kill()
            process.join()


@contextmanager
def _signals_left_to_the_parent() -> Iterator[None]:
    """Let the processes that are started here be deaf to what is sent to all of a run at once.

    A terminal, torchrun and batch systems do so; the training process decides what a signal means,
    and needs its data until then. What comes here in the meantime is delivered afterwards.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    on_child = signal.getsignal(signal.SIGCHLD)
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    )
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and on_child is not None:
            # The loader's own handler raises wherever the program is, also in mid-step.
            signal.signal(signal.SIGCHLD, on_child)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Answers(Dataset[Any]):
    """What was read, or the error a user should read.

    An exception that leaves a worker comes out wrapped in the worker's traceback, and the cycle it
    forms keeps the loader from closing its workers for five seconds each.
    """

    def __init__(self, read: Callable[[int], Any]) -> None:
        self.read = read

    def __getitem__(self, step: int) -> Any:
        try:
            return self.read(step)
        except (ValueError, OSError) as error:
            return error


def _as_is(answer: Any) -> Any:
    return answer
