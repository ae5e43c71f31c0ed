"""Steps whose loss or gradient is far above what is usual, such as after damaged data."""

from collections.abc import Mapping
from statistics import median
from typing import Any

WINDOW = 128
"""Steps that the usual is taken from."""
ENOUGH = 32
"""Steps that must have been seen before anything counts as unusual."""


class SpikeGuard:
    """Tell a spike by the median of the steps before.

    The steps that were skipped count in the median too: where a loss has risen for good, half a
    window is skipped and training goes on.

    Args:
        limit: how many times the median is too much.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._losses: list[float] = []
        self._norms: list[float] = []

    def judge(self, loss: float, gradient_norm: float) -> bool:
        """Say whether a step is a spike, and remember it.

        Args:
            loss: what was minimized, finite. It counts while its median is positive: a bound on
                continuous data may be negative, and a multiple of that means nothing.
            gradient_norm: length of the gradient before clipping, finite.
        """
        spike = len(self._norms) >= ENOUGH and (
            gradient_norm > self.limit * median(self._norms)
            or loss > self.limit * median(self._losses) > 0
        )
        self._losses = [*self._losses, loss][-WINDOW:]
        self._norms = [*self._norms, gradient_norm][-WINDOW:]
        return spike

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint has to keep, for JSON."""
        return {"losses": self._losses, "norms": self._norms}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state` returned."""
        self._losses, self._norms = list(state["losses"]), list(state["norms"])
