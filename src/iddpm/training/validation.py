"""The loss on data that was never trained on."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddpm.diffusion import Denoiser
from iddpm.randomness import normal, stream
from iddpm.training.classification import NoisyClassifier
from iddpm.training.precision import Precision
from iddpm.training.step import Loss

HeldOut = Callable[[], Iterable[tuple[Tensor, dict[str, Any]]]]
"""Returns the held-out batches anew: data in [-1, 1] on the device, and its conditioning."""


@torch.no_grad()
def held_out_loss(
    denoiser: Denoiser | NoisyClassifier, loss: Loss, batches: HeldOut, precision: Precision
) -> float | None:
    """Return the mean loss over the held-out items, or None when there are none.

    Item k always meets the same noise at the same timestep, and the timesteps are spread evenly,
    so that two measurements differ by the weights alone.
    """
    total, count = 0.0, 0
    num_steps = len(denoiser.diffusion.schedule)
    shift = stream(0, "held-out timestep").random()
    for x0, conditioning in batches():
        # The golden ratio's multiples fill [0, 1) evenly however many there are.
        place = (np.arange(count, count + len(x0)) * 0.6180339887498949 + shift) % 1.0
        t = torch.from_numpy((place * num_steps).astype(np.int64))
        noise = torch.from_numpy(normal(0, "held-out noise", x0.shape, start=count)).to(x0.device)
        with precision.autocast():
            terms = loss(denoiser, x0, t, noise, **conditioning)
        total += float(terms.loss.double().sum())
        count += len(x0)
    return total / count if count else None
