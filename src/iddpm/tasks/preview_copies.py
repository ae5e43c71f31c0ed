"""Are previews copies of training items? Measured while a model trains."""

import time
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.builders.run_data import Split, shuffled
from iddpm.data.batches import held_out_batches
from iddpm.evaluation.nearest_items import (
    FEWEST_HELD_OUT,
    Limits,
    Nearest,
    memorization,
    search,
)

TRAINING_ITEMS, HELD_OUT_ITEMS = 4096, 256
"""Most items that are compared."""
VALUES = 2**24
"""Most numbers of each of these, in memory: 64 MB."""
SECONDS = 5.0
"""Time after which no further training items are read, once in a session."""
_CHUNK = 64


class PreviewCopies:
    """Compare previews with training items, and held-out items with the same, as a scale.

    The items are read at the first preview and then kept, so that each preview costs one matrix
    product: 16 previews with 4,096 items.

    Args:
        split: the data; some of its training items are compared, the same in each session.
    """

    def __init__(self, split: Split) -> None:
        self._split = split
        self._training: Tensor | None = None
        self._held_out: Nearest | None = None

    def measure(self, previews: Tensor) -> dict[str, float]:
        """Return the share of near copies of previews [N, C, *spatial] in [-1, 1], for the log.

        ``near_copies`` is the share of previews, ``near_copies_held_out`` that of held-out items,
        and ``near_copies_limit`` the share that chance would not exceed
        (:class:`~iddpm.evaluation.nearest_items.Memorization`). Nothing if too few items are held
        out, or for training, or if they are too large: more than about 335,000 values.
        """
        training, held_out = self._items()
        if training is None or held_out is None:
            return {}
        found = search([previews], [(0, training)])[0]
        judged, limits = memorization(found, held_out), Limits.of(held_out)
        if judged is None or limits is None:
            return {}
        return {
            "near_copies": judged.copies,
            "near_copies_held_out": float(limits.copies(held_out).double().mean()),
            "near_copies_limit": judged.limit,
        }

    def _items(self) -> tuple[Tensor | None, Nearest | None]:
        """Return the training items, and how near held-out items come to them."""
        split = self._split
        if self._training is None and len(split.held_out) >= FEWEST_HELD_OUT:
            room = VALUES // int(np.prod(split.source.shape))
            if room < FEWEST_HELD_OUT:
                return None, None
            self._training = _read(
                split, shuffled(split.train)[: min(TRAINING_ITEMS, room)], SECONDS
            )
            if self._training is not None:
                few = min(HELD_OUT_ITEMS, room)
                others = _read(split, shuffled(split.held_out)[:few])
                assert others is not None
                self._held_out = search([others], [(0, self._training)])[0]
        return self._training, self._held_out


def warning_of(measured: dict[str, float]) -> str | None:
    """Return a sentence if more previews are near copies than chance explains."""
    if not measured or measured["near_copies"] <= measured["near_copies_limit"]:
        return None
    return (
        f"warning: {measured['near_copies']:.0%} of the previews are near copies of training items "
        f"({measured['near_copies_held_out']:.0%} of the held-out items are): stop here, or use "
        "more data, augmentation or dropout"
    )


def _read(split: Split, items: NDArray[np.int64], seconds: float | None = None) -> Tensor | None:
    """Return items [N, C, *spatial] in [-1, 1], as many as the time allows; None below two."""
    started, parts = time.monotonic(), list[Tensor]()
    for x in _chunks(split, items):
        parts.append(x)
        if seconds is not None and time.monotonic() - started > seconds:
            break
    read = torch.cat(parts) if parts else torch.empty(0)
    return read if len(read) > 1 else None


def _chunks(split: Split, items: NDArray[np.int64]) -> Iterator[Tensor]:
    for batch in held_out_batches(split.source, items, batch_size=_CHUNK):
        yield batch.to("cpu").x
