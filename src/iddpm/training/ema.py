"""Exponential moving averages of the weights."""

import copy
from functools import cached_property

import torch
from torch import Tensor, nn


class EMA:
    """A network whose weights are the moving average of another's.

    The average is a network of its own, which is sampled and measured; the trained weights are
    never exchanged.

    Args:
        network: the network that is trained; copied.
        rate: share of the average that is kept at each update.
        warmup: let the n-th update keep at most (1 + n) / (10 + n), so that short runs do not
            average the random start.

    >>> network = nn.Linear(2, 2)
    >>> ema = EMA(network, 0.9999)
    >>> ema.update(network)
    >>> ema.name, ema.updates, round(ema.kept(), 2)
    ('ema_0.9999', 1, 0.18)
    """

    def __init__(self, network: nn.Module, rate: float, *, warmup: bool = True) -> None:
        self.rate = rate
        self.warmup = warmup
        self.updates = 0
        self.network = copy.deepcopy(network).eval().requires_grad_(False)

    # At the first update and not before, since sharding replaces the parameters.
    @cached_property
    def _averages(self) -> list[Tensor]:
        return list(self.network.parameters())

    @cached_property
    def _buffers(self) -> list[Tensor]:
        return list(self.network.buffers())

    @property
    def name(self) -> str:
        """The file name of the average, such as ``ema_0.9999``."""
        return ema_name(self.rate)

    def kept(self) -> float:
        """Return the share of the average that this update keeps."""
        if not self.warmup:
            return self.rate
        return min(self.rate, (1 + self.updates) / (10 + self.updates))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the weights of ``network``."""
        self.updates += 1
        torch._foreach_lerp_(self._averages, list(network.parameters()), 1 - self.kept())
        if self._buffers:
            torch._foreach_copy_(self._buffers, list(network.buffers()))


def ema_name(rate: float) -> str:
    """Return the file name of an average, such as ``ema_0.9999``."""
    return f"ema_{rate}"
