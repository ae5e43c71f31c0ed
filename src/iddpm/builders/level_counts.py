"""How frequent each level of the data is, for the first bias of a level head."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iddpm.data.sources.source import Source
from iddpm.networks import LevelHead

MOST_ITEMS = 512
MOST_VALUES = 2**24
"""Values that are counted at most: more would change nothing that can be seen."""


def start_levels(network: nn.Module, source: Source, items: NDArray[np.int64]) -> None:
    """Let a network's first probabilities be those of the data; of others nothing changes."""
    if isinstance(network, LevelHead):
        network.start_at(count_levels(source, items))


def count_levels(source: Source, items: NDArray[np.int64]) -> Tensor:
    """Return how often each channel of some items, evenly spread, has each level, [C, K]."""
    assert source.bits is not None
    count = min(MOST_ITEMS, max(MOST_VALUES // math.prod(source.shape), 1), len(items))
    levels = 2**source.bits
    found = np.zeros((source.shape[0], levels), np.int64)
    for index in items[np.linspace(0, len(items) - 1, count).round().astype(np.int64)].tolist():
        for channel, values in enumerate(source.read(index)):
            found[channel] += np.bincount(values.reshape(-1), minlength=levels)
    return torch.from_numpy(found)
