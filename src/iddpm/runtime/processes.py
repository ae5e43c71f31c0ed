"""One process or many: who this one is, which share is its own, and how all of them agree.

Under ``torchrun`` every process runs the same program. What one of them decides alone would leave
the others waiting, so decisions go through :class:`Ranks`; alone, its methods cost nothing.
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
"""Seconds for all processes to come."""
DAY = 24 * 3600.0
"""A time limit for what has no natural one; a process that ends is noticed at once all the same."""
GRACE = 5.0
"""Seconds for the others to say that they have lost somebody too; who does not is named."""


@dataclass(frozen=True)
class Ranks:
    """The processes that work together, seen from one of them.

    Attributes:
        rank: number of this process among all, from 0.
        count: how many there are.
        local: number of this process on its machine, from 0.
        board: where ranks leave a last word; torchrun keeps it, so that it outlives them all.
    """

    rank: int = 0
    count: int = 1
    local: int = 0
    board: Any = field(default=None, compare=False, repr=False)

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks for all."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return this rank's rows of ``n``: contiguous, and at most one more than another's."""
        return slice(n * self.rank // self.count, n * (self.rank + 1) // self.count)

    @property
    def turns(self) -> slice:
        """Which pieces of work are this rank's when they are dealt in turn."""
        return slice(self.rank, None, self.count)

    def largest(self, values: Sequence[float]) -> list[float]:
        """Return the largest of each of some numbers over all ranks, the same on each.

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
        """Return what each rank has to say, by rank."""
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
        """Let an error that a user should read end all ranks, whichever met it.

        Raises:
            ValueError, OSError, RunFailed: what the lowest of those ranks raised.
        """
        with _caught() as errors:
            yield
        if self.count == 1:
            for error in errors:
                raise error
            return
        _raise_lowest(self.gathered(errors))

    def in_rounds(self, mine: Iterable[T], total: int) -> Iterator[T]:
        """Yield what came of all pieces of work, in their order, on every rank.

        Each rank works on one piece, then all exchange what they have: so they keep pace, and an
        error on one ends all. What may fail belongs into the work, not into the loop over this.

        Args:
            mine: works on this rank's pieces, those of :attr:`turns`, one whenever it is asked.
            total: how many pieces the ranks have together.

        Raises:
            ValueError, OSError, RunFailed: as :meth:`together`.
        """
        if self.count == 1:
            yield from mine
            return
        work = iter(mine)
        for start in range(0, total, self.count):
            piece = None
            with _caught() as errors:
                piece = next(work) if start + self.rank < total else None
            said = self.gathered((errors, piece))
            _raise_lowest([errors for errors, _ in said])
            yield from [piece for _, piece in said][: total - start]

    def by_first(self, work: Callable[[], T]) -> T:
        """Let the first rank work while the others wait, and return what came of it on each.

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
        """Let what breaks a talk with the others end as :class:`RankLost`, which says who is lost.

        Around computation too, where a backward pass talks; its own errors pass through.
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
        """Leave a last word for the others, who may then say why this rank is lost."""
        if self.board is not None:
            with suppress(RuntimeError):  # the board may go with the process that keeps it
                self.board.set(str(self.rank), word)

    def _lost(self) -> str:
        """Say which ranks are lost: those that leave no word, or whose last word is an error."""
        words: dict[int, str] = {}
        # In a thread: where a rank and not torchrun keeps the board, it may hang together with it.
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
        """Collect the words of the others until all have left one or time is up."""
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
        device_type: ``"cuda"`` computes over NCCL and agrees over gloo; others use gloo alone.
        timeout: seconds after which a process that does not answer counts as lost.

    Raises:
        RankLost: not all of them came.
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
    """Keep the error that a user should read, if there is one, for the others to hear of."""
    errors: list[Exception] = []
    try:
        yield errors
    except RankLost:
        raise
    except (ValueError, OSError, RunFailed) as met:
        errors.append(met)


def _raise_lowest(met: list[list[Exception]]) -> None:
    """Raise the error of the lowest rank that met one."""
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
    """Tell the starts of one torchrun apart: it keeps the addresses of the processes before.

    Of several machines each counts for itself, so there the count would not agree.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE", "1") == "1"
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if alone else "0"


def _broke_a_talk(error: RuntimeError) -> bool:
    """Tell an error of gloo or NCCL, which has no type of its own, from one of computation."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or "gloo" in text or "nccl" in text
