"""The loss on data that was never trained on."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddpm.diffusion import Denoiser
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.runtime.seeds import normal, stream
from iddpm.training.classification import NoisyClassifier
from iddpm.training.precision import Precision
from iddpm.training.step import Loss

HeldOut = Callable[[int, int], tuple[Tensor, dict[str, Any]]]
"""Returns the held-out items of a range: data in [-1, 1] on the device, and its conditioning."""


@torch.no_grad()
def held_out_loss(
    denoiser: Denoiser | NoisyClassifier,
    loss: Loss,
    held_out: HeldOut,
    count: int,
    precision: Precision,
    *,
    batch_size: int,
    ranks: Ranks = ALONE,
) -> float:
    """Return the mean loss over the held-out items, the same on every rank.

    Item k always has the same noise and the same timestep, and the timesteps are spread evenly, so
    that two measurements differ only by the weights.

    Args:
        denoiser, loss, precision: as in training.
        held_out: reads items.
        count: number of items, at least one.
        batch_size: items per batch.
        ranks: the processes that share the batches. Each evaluates the same number, since a sharded
            network needs all ranks in every call: a rank without a batch repeats the first.
    """
    num_steps = len(denoiser.diffusion.schedule)
    shift = stream(0, "held-out timestep").random()
    starts = range(0, count, batch_size)
    rounds = -(-len(starts) // ranks.count)

    def measured(start: int) -> float:
        x0, conditioning = held_out(start, min(start + batch_size, count))
        # Multiples of the golden ratio fill [0, 1) evenly for any number of items.
        place = (np.arange(start, start + len(x0)) * 0.6180339887498949 + shift) % 1.0
        t = torch.from_numpy((place * num_steps).astype(np.int64))
        noise = torch.from_numpy(normal(0, "held-out noise", x0.shape, start=start)).to(x0.device)
        with precision.autocast():
            terms = loss(denoiser, x0, t, noise, **conditioning)
        return float(terms.loss.double().sum())

    padded = [*starts, *[0] * (rounds * ranks.count - len(starts))]
    work = (measured(start) for start in padded[ranks.turns])
    sums = list(ranks.in_rounds(work, len(padded)))[: len(starts)]
    return sum(sums) / count
