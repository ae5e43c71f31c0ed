"""Spikes: steps whose loss or gradient is far above normal, such as after damaged data."""

from collections.abc import Mapping
from statistics import median
from typing import Any

WINDOW = 128
"""Number of steps in the median."""
ENOUGH = 32
"""Number of steps before any step counts as a spike."""


class SpikeGuard:
    """Detect spikes by the median of the last steps.

    Skipped steps count in the median too: if a loss has risen permanently, half a window is skipped
    and training continues.

    Args:
        limit: the multiple of the median above which a step is a spike.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self._losses: list[float] = []
        self._norms: list[float] = []

    def judge(self, loss: float, gradient_norm: float) -> bool:
        """Return whether a step is a spike, and add it to the window.

        Args:
            loss: the minimized loss, finite. It is used only while its median is positive: a bound
                on continuous data may be negative, and a multiple of it has no meaning.
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
        """Return the state for a checkpoint, as JSON."""
        return {"losses": self._losses, "norms": self._norms}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from the result of :meth:`state`."""
        self._losses, self._norms = list(state["losses"]), list(state["norms"])
