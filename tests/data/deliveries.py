"""What the training process has got from its data workers: an event for the workers to wait for."""

import time
from multiprocessing import RawValue
from types import SimpleNamespace

import pytest

from iddpm.data import loader


class Deliveries:
    """Count what comes from workers, in memory that they share, and let seconds pass by looks.

    The loader's clock stands still until ``patient_until`` steps have come, however long that
    takes; from then on each look at it is a second later.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, patient_until: int = 0) -> None:
        self.count, self.looks = RawValue("i", 0), RawValue("i", 0)
        self.patient_until = patient_until
        original = loader._next

        def counted(*arguments: object) -> object:
            answer = original(*arguments)
            self.count.value += 1
            return answer

        monkeypatch.setattr(loader, "_next", counted)
        monkeypatch.setattr(loader, "CHECK_SECONDS", 0.1)
        monkeypatch.setattr(loader, "time", SimpleNamespace(monotonic=self._look))

    def _look(self) -> float:
        if self.count.value >= self.patient_until:
            self.looks.value += 1
        return float(self.looks.value)

    def wait_for(self, count: int) -> None:
        """In a worker: wait until so many steps have come."""
        while self.count.value < count:
            time.sleep(0.01)

    def wait_for_looks(self, count: int) -> None:
        """In a worker: wait until the training process has looked for data so many times."""
        while self.looks.value < count:
            time.sleep(0.01)
