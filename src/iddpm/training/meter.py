"""Averages between two lines of the log."""

import math
import time
from typing import Any

import torch

from iddpm.training.step import StepResult

QUARTILES = 4


class Meter:
    """Average step results until they are read; the loss also by quartile of the timestep.

    Args:
        num_steps: T of the process, which the quartiles divide.
    """

    def __init__(self, num_steps: int) -> None:
        self.num_steps = num_steps
        self._clear()

    def _clear(self) -> None:
        self._sums = {"loss": 0.0, "mse": 0.0, "vb": 0.0}
        self._items = {"loss": 0, "mse": 0, "vb": 0}
        self._quartile_sums = torch.zeros(QUARTILES, dtype=torch.float64)
        self._quartile_items = torch.zeros(QUARTILES, dtype=torch.float64)
        self._norms: list[float] = []
        self._seen = 0
        self._waited = 0.0
        self._since = time.monotonic()

    def add(self, result: StepResult, waited: float) -> None:
        """Add a step that waited so many seconds for its data; one that was skipped only counts."""
        self._seen += len(result.t)
        self._waited += waited
        if result.skipped:
            return
        for name, values in (("loss", result.loss), ("mse", result.mse), ("vb", result.vb)):
            if values is not None:
                self._sums[name] += float(values.double().sum())
                self._items[name] += len(values)
        quartile = result.t * QUARTILES // self.num_steps
        self._quartile_sums.index_add_(0, quartile, result.loss.double())
        self._quartile_items.index_add_(0, quartile, torch.ones(len(quartile), dtype=torch.float64))
        self._norms.append(result.gradient_norm)

    def read(self) -> dict[str, Any]:
        """Return the averages since the last call; what was not seen is left out."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        record: dict[str, Any] = {
            name: self._sums[name] / self._items[name] for name in self._sums if self._items[name]
        }
        for q in range(QUARTILES):
            if self._quartile_items[q]:
                record[f"loss_q{q}"] = float(self._quartile_sums[q] / self._quartile_items[q])
        if self._norms:
            record["gradient_norm"] = math.fsum(self._norms) / len(self._norms)
        record["items_per_second"] = self._seen / elapsed
        record["data_wait_share"] = min(self._waited / elapsed, 1.0)
        self._clear()
        return record
