"""One process or many: who this one is, which share is its own, and how all of them agree.

Under ``torchrun`` every process runs the same program. What one of them decides alone would leave
the others waiting, so decisions go through :class:`Ranks`; alone, its methods cost nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from iddpm.failure import SHARED, RankLost, RunFailed

T = TypeVar("T")
DAY = 24 * 3600.0
"""A time limit for what has no natural one; a process that ends is noticed at once all the same."""


@dataclass(frozen=True)
class Ranks:
    """The processes that work together, seen from one of them.

    Attributes:
        rank: number of this process among all, from 0.
        count: how many there are.
        local: number of this process on its machine, from 0.
    """

    rank: int = 0
    count: int = 1
    local: int = 0

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
        with _talking(self):
            dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
        return numbers.tolist()

    def joined(self, rows: Tensor) -> Tensor:
        """Return the rows [n, ...] of every rank in their order, on the CPU; n may differ."""
        if self.count == 1:
            return rows.cpu()
        return torch.cat([torch.as_tensor(part) for part in self.gathered(rows.cpu())])

    def gathered(self, value: Any) -> list[Any]:
        """Return what each rank has to say, by rank."""
        if self.count == 1:
            return [value]
        said: list[Any] = [None] * self.count
        with _talking(self):
            dist.all_gather_object(said, value)
        return said

    def wait(self) -> None:
        """Wait until every rank is here."""
        if self.count > 1:
            with _talking(self):
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
            with _talking(self):
                dist.broadcast_object_list(done, src=0)
        return cast(T, done[0])


ALONE = Ranks()


@contextmanager
def joined_ranks(device_type: str, timeout: float) -> Iterator[Ranks]:
    """Join the processes that torchrun started, for as long as the context lasts.

    Args:
        device_type: ``"cuda"`` computes over NCCL and agrees over gloo; others use gloo alone.
        timeout: seconds after which a process that does not answer counts as lost.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    ranks = Ranks(dist.get_rank(), count, int(os.environ.get("LOCAL_RANK", "0")))
    try:
        yield ranks
        ranks.wait()  # gloo aborts when one leaves while another still listens
    except Exception as error:
        if SHARED in getattr(error, "__notes__", ()):
            ranks.wait()
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


@contextmanager
def _talking(ranks: Ranks) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankLost(
            f"rank {ranks.rank} of {ranks.count}: another process ended or did not answer "
            f"({str(error).splitlines()[0]})"
        ) from error
