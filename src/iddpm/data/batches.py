"""Training batches as a pure function of the step, so that any step can be resumed exactly."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from iddpm.data.augment import Augmentation
from iddpm.data.levels import to_model_range
from iddpm.data.loader import read_ahead
from iddpm.data.sources.source import Source
from iddpm.runtime.seeds import stream


@dataclass(frozen=True)
class Batch:
    """The items of one step.

    Attributes:
        x: ``[N, C, *spatial]``, as stored when it comes from a loader (bytes travel faster than
            floats), float32 in [-1, 1] after `to`.
        y: int64 class numbers ``[N]``, or None.
        items: int64 ``[N]``, the index of each item in its source.
        step: the training step; for held-out batches a running number.
        bits: depth of the integers in ``x``; None when ``x`` lies in [-1, 1].
        conditions: float32 ``[N, K]``, the conditions of the items, or None.
        given: ``[N, C, *spatial]``, the paired data of the items, as ``x``; or None.
        given_bits: as ``bits``.
    """

    x: torch.Tensor
    y: torch.Tensor | None
    items: torch.Tensor
    step: int
    bits: int | None
    conditions: torch.Tensor | None = None
    given: torch.Tensor | None = None
    given_bits: int | None = None

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch on ``device``, ``x`` and ``given`` as float32 in [-1, 1]."""

        def moved(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else value.to(device, non_blocking=True)

        given = moved(self.given)
        return replace(
            self,
            x=to_model_range(self.x.to(device, non_blocking=True), self.bits),
            y=moved(self.y),
            bits=None,
            conditions=moved(self.conditions),
            given=None if given is None else to_model_range(given, self.given_bits),
            given_bits=None,
        )

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; called by torch's DataLoader."""

        def pinned(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else value.pin_memory()

        return replace(
            self,
            x=self.x.pin_memory(),
            y=pinned(self.y),
            conditions=pinned(self.conditions),
            given=pinned(self.given),
        )


class Order:
    """The order of ``n`` items over endless shuffled epochs.

    Position p belongs to epoch ``p // n``, and every epoch has each item once, in an order drawn
    from (seed, epoch).
    """

    def __init__(self, n: int, seed: int) -> None:
        self.n = n
        self.seed = seed
        self._epoch = -1
        self._permutation: NDArray[np.int64] = np.empty(0, np.int64)

    def __getitem__(self, position: int) -> int:
        """Return the item, in ``range(n)``, at a position."""
        epoch, place = divmod(position, self.n)
        if epoch != self._epoch:
            self._permutation = stream(self.seed, "order", step=epoch).permutation(self.n)
            self._epoch = epoch
        return int(self._permutation[place])


class Batches:
    """Batches of ``items``; ``batches[step]`` is one, iterating yields one step after another.

    Every batch is a function of (seed, step): the same for any first step and any number of
    workers. Batch ``step`` holds positions ``step * batch_size`` and following of `Order`, so
    batches are always full and run on over the end of an epoch.

    Args:
        source: where items are read.
        items: indices in ``source`` that may be used; None for all.
        batch_size: items in a batch, at most as many as there are.
        seed: of the order and of the augmentations.
        start_step: the first step to yield.
        stop_step: the step to stop before; None never stops.
        workers: processes that read ahead; 0 reads in this one.
        worker_timeout: seconds after which a worker that does not answer counts as hung.
        augmentations: applied in turn to each item.
        rows: of every batch, read only these: a process's share.
        pin_memory: hand batches over in page-locked memory, for a GPU.

    Raises:
        ValueError: a batch larger than the data, or a number out of range.
    """

    def __init__(
        self,
        source: Source,
        *,
        items: Sequence[int] | NDArray[np.int64] | None = None,
        batch_size: int,
        seed: int,
        start_step: int = 0,
        stop_step: int | None = None,
        workers: int = 0,
        worker_timeout: float = 300.0,
        augmentations: Sequence[Augmentation] = (),
        rows: slice = slice(None),
        pin_memory: bool = False,
    ) -> None:
        self.source = source
        self.items = _checked_items(source, items)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        if not len(self.items):
            raise ValueError(
                f"{source.name} has no items left for training: lower data.held_out, "
                "or use more data"
            )
        if batch_size > len(self.items):
            raise ValueError(
                f"batch_size is {batch_size} but there are only {len(self.items)} training "
                f"items; use a batch_size of at most {len(self.items)}, or more data"
            )
        if workers < 0:
            raise ValueError(f"workers is {workers}; it must be 0 or more")
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.stop_step = stop_step
        self.workers = workers
        self.worker_timeout = worker_timeout
        self.augmentations = tuple(augmentations)
        self.rows = rows
        self.pin_memory = pin_memory
        self._order = Order(len(self.items), seed)

    def items_at(self, step: int) -> NDArray[np.int64]:
        """Return the items of one step's batch, [N], by their index in the source."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)
        return self.items[[self._order[position] for position in positions]]

    def __getitem__(self, step: int) -> Batch:
        """Return the batch of one step."""
        positions = range(step * self.batch_size, (step + 1) * self.batch_size)[self.rows]
        items = self.items_at(step)[self.rows]
        return _batch(self.source, items, step, partial(self._augmented, positions=positions))

    def __iter__(self) -> Iterator[Batch]:
        """Yield the batches of ``start_step`` up to ``stop_step``."""
        steps = (
            count(self.start_step)
            if self.stop_step is None
            else range(self.start_step, self.stop_step)
        )
        if not self.workers:
            for step in steps:
                batch = self[step]
                yield batch.pin_memory() if self.pin_memory else batch
            return
        yield from read_ahead(
            self.__getitem__,
            steps,
            workers=self.workers,
            timeout=self.worker_timeout,
            pin_memory=self.pin_memory,
        )

    def _augmented(
        self, x: NDArray[Any], bits: int | None, positions: Sequence[int]
    ) -> NDArray[Any]:
        """Change items at random, and what goes with them in the same way."""
        if not self.augmentations:
            return x
        changed = []
        for item, position in zip(x, positions, strict=True):
            generator = stream(self.seed, "augment", index=position)
            for augmentation in self.augmentations:
                item = augmentation(item, generator, bits)
            changed.append(item)
        return np.stack(changed)


def held_out_batches(
    source: Source,
    items: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    batch_size: int,
    turns: slice = slice(None),
) -> Iterator[Batch]:
    """Yield ``items`` (None for all) once, in order; the last batch may be smaller.

    ``turns`` picks among the batches, which keep their numbers, for sharing them out.
    """
    chosen = _checked_items(source, items)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    for start in range(0, len(chosen), batch_size)[turns]:
        part = chosen[start : start + batch_size]
        yield _batch(source, part, start // batch_size)


def _batch(
    source: Source,
    items: NDArray[np.int64],
    step: int,
    change: Callable[[NDArray[Any], int | None], NDArray[Any]] = lambda x, bits: x,
) -> Batch:
    def read(source: Source) -> torch.Tensor:
        return torch.from_numpy(change(source.read_many(items), source.bits))

    return Batch(
        read(source),
        None if source.labels is None else torch.from_numpy(source.labels[items]),
        torch.from_numpy(items),
        step,
        source.bits,
        None if source.conditions is None else torch.from_numpy(source.conditions[items]),
        None if source.given is None else read(source.given),
        None if source.given is None else source.given.bits,
    )


def _checked_items(
    source: Source, items: Sequence[int] | NDArray[np.int64] | None
) -> NDArray[np.int64]:
    if items is None:
        return np.arange(len(source), dtype=np.int64)
    chosen = np.asarray(items)
    if chosen.dtype == np.bool_:
        raise ValueError("items are indices, not a mask; use numpy.flatnonzero(mask)")
    if chosen.size and not 0 <= chosen.min() <= chosen.max() < len(source):
        raise ValueError(
            f"items run from {chosen.min()} to {chosen.max()} but {source.name} has {len(source)}"
        )
    return chosen.astype(np.int64)
