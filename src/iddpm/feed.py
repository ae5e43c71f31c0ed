"""What the training loop is fed: batches on the device, and what the network is told as well."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.build import build_augmentations
from iddpm.config import Config
from iddpm.data.batches import Batch, Batches
from iddpm.data.sources.source import Source
from iddpm.networks import NO_CLASS
from iddpm.randomness import stream


def training_batches(
    config: Config,
    source: Source,
    items: NDArray[np.int64],
    start_step: int,
    device: torch.device,
) -> Batches:
    """Return the batches from ``start_step`` to the last step of resolved settings."""
    batch_size = config.training.batch_size
    assert batch_size is not None
    return Batches(
        source,
        items=items,
        batch_size=batch_size,
        seed=config.training.seed,
        start_step=start_step,
        stop_step=max(config.training.steps, start_step),
        workers=config.data.workers,
        augmentations=build_augmentations(config),
        pin_memory=device.type == "cuda",
    )


def on_device(
    batches: Iterable[Batch], config: Config, device: torch.device
) -> Iterator[tuple[Tensor, dict[str, Any]]]:
    """Yield data in [-1, 1] on the device and what the network is told beside it."""
    for batch in batches:
        moved = batch.to(device)
        yield moved.x, {"y": moved.y} if config.model.class_conditional else {}


def without_some_labels(batches: Iterable[Batch], config: Config) -> Iterator[Batch]:
    """Hide labels at random, by a function of the step, so that guidance can be learned."""
    share = config.training.label_dropout if config.model.class_conditional else 0.0
    for batch in batches:
        if share > 0 and batch.y is not None:
            uniform = stream(config.training.seed, "label", step=batch.step).random(len(batch.y))
            batch = replace(
                batch, y=batch.y.masked_fill(torch.from_numpy(uniform < share), NO_CLASS)
            )
        yield batch
