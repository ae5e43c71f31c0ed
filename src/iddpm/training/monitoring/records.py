"""Averages between two lines of the log, and the lines of several processes as one."""

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from iddpm.training.step import StepResult

QUARTILES = 4
OWN = ("data_wait_share", "memory_mb", "compute_share")
"""The values that each process measures separately."""


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
        self._quartile_sums = np.zeros(QUARTILES)
        self._quartile_items = np.zeros(QUARTILES, np.int64)
        self._norm = 0.0
        self._steps = 0
        self._seen = 0
        self._waited = 0.0
        self._since = time.monotonic()

    def wait(self, seconds: float) -> None:
        """Add a wait for data when it ends; the clock of the next line starts at `read`."""
        self._waited += seconds

    def add(self, result: StepResult) -> None:
        """Add a step; a skipped one is only counted."""
        self._seen += len(result.t)
        if result.skipped:
            return
        # NumPy: on a few hundred numbers its calls cost a fraction of PyTorch's.
        self._add("loss", result.loss)
        self._add("mse", result.mse)
        self._add("vb", result.vb)
        quartile = (result.t.numpy() * QUARTILES // self.num_steps).astype(np.int64)
        losses = result.loss.numpy()
        self._quartile_sums += np.bincount(quartile, losses, minlength=QUARTILES)
        self._quartile_items += np.bincount(quartile, minlength=QUARTILES)
        self._norm += result.gradient_norm
        self._steps += 1

    def _add(self, name: str, values: Tensor | None) -> None:
        if values is not None:
            self._sums[name] += float(values.numpy().sum(dtype=np.float64))
            self._items[name] += len(values)

    def read(self) -> dict[str, Any]:
        """Return the averages since the last call, without values that were not observed."""
        elapsed = max(time.monotonic() - self._since, 1e-9)
        record: dict[str, Any] = {
            name: self._sums[name] / self._items[name] for name in self._sums if self._items[name]
        }
        for q in range(QUARTILES):
            if self._quartile_items[q]:
                record[f"loss_q{q}"] = float(self._quartile_sums[q] / self._quartile_items[q])
        if self._steps:
            record["gradient_norm"] = self._norm / self._steps
        record["items_per_second"] = self._seen / elapsed
        record["data_wait_share"] = min(self._waited / elapsed, 1.0)
        self._clear()
        return record


def merged(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the measurements of all processes as one record.

    Losses and throughput are those of the global batch, the same on all. The record has the largest
    wait and memory, the mean share of compute, and lists of these by rank. A single record is
    returned unchanged.
    """
    if len(records) == 1:
        return records[0]
    record = dict(records[0])
    ranks = {name: [r.get(name) for r in records] for name in OWN}
    for name, values in ranks.items():
        known = [value for value in values if value is not None]
        if known:
            mean = name == "compute_share"
            record[name] = math.fsum(known) / len(known) if mean else max(known)
    record["ranks"] = {name: values for name, values in ranks.items() if name in record}
    return record
