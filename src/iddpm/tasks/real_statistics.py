"""Real data as an evaluation reads it, and the statistics of its features."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from iddpm.data.batches import held_out_batches
from iddpm.data.sources.source import Source
from iddpm.evaluation.features import Extractor
from iddpm.evaluation.nearest_items import Nearest, search
from iddpm.evaluation.reference import Reference, load_reference
from iddpm.runs.step_tables import spread
from iddpm.runtime.console import progress_bar
from iddpm.runtime.errors import warned
from iddpm.runtime.processes import Ranks

BATCH = 256
REFERENCE_ITEMS = 50_000
"""Real items that statistics are made of, evenly spread; as many as is usual."""


@dataclass(frozen=True, eq=False)
class RealData:
    """The items that samples are compared with.

    Attributes:
        source: what they are read from.
        items: their positions in it.
        bits: what samples are rounded to before they are compared; None for none.
        statistics: a file of statistics of other items, to compare with instead.
    """

    source: Source
    items: NDArray[np.int64]
    bits: int | None
    statistics: Path | None = None

    def facts(self, extractor: Extractor) -> dict[str, Any]:
        """Return what defines the statistics of these items under an extractor."""
        some = self.source.read_many(spread(self.items, 64))
        chosen = hashlib.sha256(self.items.astype("<i8").tobytes() + some.tobytes())
        return {
            "features": extractor.name,
            "extractor": extractor.hash,
            "resize": extractor.resize,
            "rounded_to_bits": self.bits,
            "data": self.source.name,
            "items": len(self.items),
            "split": chosen.hexdigest(),
        }


def statistics_of(
    real: RealData, extractor: Extractor, cache: Path | None, console: Console, ranks: Ranks
) -> Reference:
    """Return the statistics of real items: those of a file, those in the cache, or new ones.

    Without a cache they are measured and not kept.
    """
    slug = "".join(c if c.isalnum() else "_" for c in extractor.name.lower())
    path = None if cache is None else cache / f"reference_{slug}.safetensors"
    with ranks.together():
        facts = real.facts(extractor)

    def kept() -> Reference | None:
        if real.statistics is not None:
            return load_reference(real.statistics, facts, data=False)
        if path is None:
            return None
        try:
            return load_reference(path, facts)
        except FileNotFoundError:
            return None
        except ValueError as error:
            console.print(f"{error}: measuring the real data again", markup=False)
            return None

    known = ranks.by_first(kept)
    if known is not None:
        return known
    with progress_bar(console, "measuring real data") as progress:
        count = -(-len(real.items) // BATCH)
        task = progress.add_task("reference", total=-(-count // ranks.count))

        def features() -> Iterator[Tensor]:
            for _, batch in numbered_batches(real.source, real.items, ranks.turns):
                progress.advance(task)
                yield extractor(batch)

        parts = list(ranks.in_rounds(features(), count))
    made = Reference.of(torch.cat(parts), facts)

    def keep(path: Path) -> None:
        with warned("the statistics of the real data are not stored"):
            console.print(f"wrote {made.save(path)}", markup=False)

    if path is not None:
        ranks.by_first(lambda: keep(path))
    return made


def nearest_items(
    queries: Sequence[Tensor],
    source: Source,
    items: NDArray[np.int64],
    console: Console,
    ranks: Ranks,
    near: int = 2,
) -> list[Nearest]:
    """Return the ``near`` nearest of some items to each query of several sets, [N, C, *spatial]."""
    with progress_bar(console, "looking for neighbors") as progress:
        count = -(-len(items) // BATCH)
        task = progress.add_task("neighbors", total=-(-count // ranks.count))

        def batches() -> Iterator[tuple[int, Tensor]]:
            for number, batch in numbered_batches(source, items, ranks.turns):
                progress.advance(task)
                yield number * BATCH, batch

        return search(queries, batches(), ranks, near)


def numbered_batches(
    source: Source, items: NDArray[np.int64], turns: slice = slice(None)
) -> Iterator[tuple[int, Tensor]]:
    """Yield batches [n, C, *spatial] in [-1, 1] with their numbers, those that ``turns`` picks."""
    for batch in held_out_batches(source, items, batch_size=BATCH, turns=turns):
        yield batch.step, batch.to("cpu").x


def read_items(source: Source, items: NDArray[np.int64]) -> Tensor:
    """Return items [N, C, *spatial] in [-1, 1]."""
    if not len(items):
        return torch.zeros(0, *source.shape)
    return torch.cat([batch for _, batch in numbered_batches(source, items)])


def by_parts(function: Callable[[Tensor], Tensor], x: Tensor, ranks: Ranks) -> Tensor:
    """Return the function of items [N, ...] that all ranks have, each computing its share."""
    parts = x.split(BATCH)
    shared = ranks.in_rounds((function(part) for part in parts[ranks.turns]), len(parts))
    return torch.cat(list(shared))
