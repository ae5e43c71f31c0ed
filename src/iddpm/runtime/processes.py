"""One process or many: their ranks, their shares of the work, and their communication.

Under ``torchrun`` every process runs the same program. If one of them decided alone, the others
would wait forever, so decisions go through :class:`Ranks`. In one process its methods cost nothing.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Thread
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from iddpm.runtime.errors import SHARED, RankLost, RunFailed

T = TypeVar("T")
JOINING = 600.0
"""Seconds for all processes to join."""
DAY = 24 * 3600.0
"""A time limit for work without a natural one; a process that ends is noticed at once anyway."""
GRACE = 5.0
"""Seconds for the others to report that they lost a rank too; the silent ones are named."""


@dataclass(frozen=True)
class Ranks:
    """The processes that work together, from the view of one of them.

    Attributes:
        rank: number of this process among all, from 0.
        count: number of processes.
        local: number of this process on its machine, from 0.
        board: a store for the last messages of ranks; torchrun keeps it, so it outlives them.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    board: Any = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process writes files and prints for all."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return this rank's rows of ``n``: contiguous, and at most one more than another's."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    @property
    def turns(self) -> slice:
        """The share of this rank if work is dealt in turn."""
        return slice(self.rank, None, self.count)

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest value of each number over all ranks, the same on each rank.

        Raises:
            RankLost: as every method that talks to the others.
        """
        if self.count == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        with self.talking():
            dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return numbers.tolist()

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows [n, ...] of every rank in their order, on the CPU; n is the same on all.

        Raises:
            RankLost: as every method that talks to the others.
        """
        if self.count == 1:
            return rows.cpu()
        mine = rows.cpu().contiguous()
        parts = [torch.empty_like(mine) for _ in range(self.count)]
        with self.talking():
            dist.all_gather(parts, mine)
        return torch.cat(parts)

    def gathered(self, value: Any) -> list[Any]:
        """Return the values of all ranks, by rank."""
        if self.count == 1:
            return [value]
        said: list[Any] = [None] * self.count
        with self.talking():
            dist.all_gather_object(said, value)
        return said

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.count > 1:
            with self.talking():
                dist.barrier()

    @contextmanager
    def together(self) -> Iterator[None]:
        """Raise an error for the user on all ranks if any of them raised one.

        Raises:
            ValueError, OSError, RunFailed: the error of the lowest such rank.
        """
        with _caught() as errors:
            yield
        if self.count == 1:
            for error in errors:
                raise error
            return
        _raise_lowest(self.gathered(errors))

    def in_rounds(self, mine: Iterable[T], total: int) -> Iterator[T]:
        """Yield the results of all units of work, in their order, on every rank.

        Each rank works on one unit, then all exchange their results. An error on one rank ends all.
        Code that may fail belongs into ``mine``, not into the loop over the results.

        Args:
            mine: an iterator that does this rank's units, those of :attr:`turns`, one per step.
            total: number of units of all ranks together.

        Raises:
            ValueError, OSError, RunFailed: as :meth:`together`.
        """
        if self.count == 1:
            yield from mine
            return
        work = iter(mine)
        for start in range(0, total, self.count):
            result = None
            with _caught() as errors:
                result = next(work) if start + self.rank < total else None
            everyones = self.gathered((errors, result))
            _raise_lowest([errors for errors, _ in everyones])
            yield from [result for _, result in everyones][: total - start]

    def by_first(self, work: Callable[[], T]) -> T:
        """Let the first rank work while the others wait, and return its result on each rank.

        Raises:
            ValueError, OSError, RunFailed: as :meth:`together`.
        """
        with self.together():
            done = [work()] if self.first else [None]
        if self.count > 1:
            with self.talking():
                dist.broadcast_object_list(done, src=0)
        return cast(T, done[0])

    def limit(self, seconds: float) -> None:
        """Change the time after which a rank that does not answer counts as lost."""
        if self.count > 1:
            dist.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds))

    @contextmanager
    def talking(self) -> Iterator[None]:
        """Turn errors of communication into :class:`RankLost`, which names the lost ranks.

        It also covers computation whose backward pass communicates; other errors pass through.
        """
        try:
            yield
        except RunFailed:
            raise
        except RuntimeError as error:
            if self.count == 1 or not _broke_a_talk(error):
                raise
            raise RankLost(self._lost()) from error

    def leave_word(self, word: str) -> None:
        """Leave a last message, with which the others can explain why this rank is lost."""
        if self.board is not None:
            with suppress(RuntimeError):  # the board may end with the process that keeps it
                self.board.set(str(self.rank), word)

    def _lost(self) -> str:
        """Return the lost ranks: those without a last message, or with an error as last message."""
        words: dict[int, str] = {}
        # In a thread: if a rank and not torchrun keeps the board, the board may hang with it.
        thread = Thread(target=self._hear, args=(words,), daemon=True)
        thread.start()
        thread.join(2 * GRACE)
        for rank, word in sorted(words.items()):
            if word:
                return f"rank {rank} of {self.count} failed ({word})"
        silent = [str(r) for r in range(self.count) if r not in words and r != self.rank]
        if not silent:
            return f"the {self.count} ranks lost their connection"
        several = len(silent) > 1
        return (
            f"rank{'s' * several} {', '.join(silent)} of {self.count} "
            f"{'have' if several else 'has'} ended or {'do' if several else 'does'} not answer"
        )

    def _hear(self, words: dict[int, str]) -> None:
        """Collect the messages of the others until all have left one or time is up."""
        self.leave_word("")
        end = time.monotonic() + GRACE
        with suppress(RuntimeError):  # as above
            while len(words) < self.count - 1 and time.monotonic() < end:
                for rank in range(self.count):
                    if rank not in (self.rank, *words) and self.board.check([str(rank)]):
                        words[rank] = self.board.get(str(rank)).decode()
                time.sleep(0.05)


ALONE = Ranks()


@contextmanager
def joined_ranks(device_type: str, timeout: float) -> Iterator[Ranks]:
    """Join the processes that torchrun started, for as long as the context lasts.

    Args:
        device_type: ``"cuda"`` uses NCCL for tensors and gloo for decisions; others use gloo alone.
        timeout: seconds after which a process that does not answer counts as lost.

    Raises:
        RankLost: not all of them joined.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    ranks = _joined(device_type, timedelta(seconds=timeout))
    try:
        with ranks.talking():
            yield ranks
        ranks.wait()  # gloo aborts when one leaves while another still listens
    except BaseException as error:
        if SHARED in getattr(error, "__notes__", ()):
            ranks.wait()
        elif not isinstance(error, RankLost):
            ranks.leave_word(f"{str(error) or type(error).__name__}")
        raise
    finally:
        dist.destroy_process_group()


@contextmanager
def _caught() -> Iterator[list[Exception]]:
    """Keep an error for the user, if there is one, so that the others learn of it."""
    errors: list[Exception] = []
    try:
        yield errors
    except RankLost:
        raise
    except (ValueError, OSError, RunFailed) as met:
        errors.append(met)


def _raise_lowest(met: list[list[Exception]]) -> None:
    """Raise the error of the lowest rank that has one."""
    for errors in met:
        for error in errors:
            error.add_note(SHARED)
            raise error


def _joined(device_type: str, timeout: timedelta) -> Ranks:
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    try:
        store, rank, count = next(rendezvous("env://", timeout=timeout))
        store = dist.distributed_c10d.PrefixStore(f"start {_start()}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    except RuntimeError as error:  # gloo's own have no type
        raise RankLost(
            f"rank {os.environ.get('RANK')} could not connect to the "
            f"{os.environ['WORLD_SIZE']} ranks within {timeout.total_seconds():g} s "
            f"({str(error).splitlines()[0]})"
        ) from error
    board = dist.distributed_c10d.PrefixStore("last words", store)
    return Ranks(rank, count, int(os.environ.get("LOCAL_RANK", "0")), board)


def _start() -> str:
    """Return the number of this start under one torchrun, which keeps the old addresses.

    Several machines count separately, so their numbers would not agree.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"


def _broke_a_talk(error: RuntimeError) -> bool:
    """Return whether an error is one of gloo or NCCL, which have no type of their own."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text
