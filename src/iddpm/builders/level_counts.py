"""The frequencies of the levels of the data, for the initial bias of a level head."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from iddpm.data.sources.source import Source
from iddpm.networks import LevelHead

MOST_ITEMS = 512
MOST_VALUES = 2**24
"""Largest number of values that are counted: more would not change the result visibly."""


def start_levels(network: nn.Module, source: Source, items: NDArray[np.int64]) -> None:
    """Initialize the probabilities of a level head by those of the data; others are unchanged."""
    if isinstance(network, LevelHead):
        network.start_at(count_levels(source, items))


def count_levels(source: Source, items: NDArray[np.int64]) -> Tensor:
    """Return the counts [C, K] of the levels in each channel of some evenly spread items."""
    assert source.bits is not None
    count = min(MOST_ITEMS, max(MOST_VALUES // math.prod(source.shape), 1), len(items))
    levels = 2**source.bits
    found = np.zeros((source.shape[0], levels), np.int64)
    for index in items[np.linspace(0, len(items) - 1, count).round().astype(np.int64)].tolist():
        for channel, values in enumerate(source.read(index)):
            found[channel] += np.bincount(values.reshape(-1), minlength=levels)
    return torch.from_numpy(found)
