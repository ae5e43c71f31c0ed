import math

import pytest
import torch

from iddpm.training.monitoring.records import Meter, merged
from iddpm.training.step import StepResult


def result(t, loss, norm, skipped=False, vb=None):
    loss = torch.tensor(loss)
    vb = None if vb is None else torch.tensor(vb)
    return StepResult(torch.tensor(t), loss, loss, vb, norm, skipped=skipped, bad=skipped)


def test_means_since_the_last_line(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("iddpm.training.monitoring.records.time.monotonic", lambda: now[0])
    meter = Meter(8)
    meter.add(result([0, 1, 7], [1.0, 3.0, 5.0], 2.0))
    meter.wait(0.5)
    meter.add(result([1, 6, 7], [5.0, 7.0, 9.0], 4.0))
    meter.wait(1.5)
    meter.add(result([0, 0, 0], [math.nan] * 3, math.inf, skipped=True))
    now[0] += 4
    assert meter.read() == {
        "loss": 5.0,
        "mse": 5.0,
        "loss_q0": 3.0,
        "loss_q3": 7.0,
        "gradient_norm": 3.0,
        "items_per_second": 9 / 4,
        "data_wait_share": 0.5,
    }
    now[0] += 1
    meter.add(result([2], [1.0], 1.0, vb=[0.25]))
    record = meter.read()
    assert (record["loss"], record["vb"], record["loss_q1"]) == (1.0, 0.25, 1.0)
    assert "loss_q0" not in record


def test_ranks_make_one_record():
    shared = {"loss": 0.5, "items_per_second": 100.0}
    first = {**shared, "data_wait_share": 0.1, "memory_mb": 300.0, "compute_share": 0.2}
    second = {**shared, "data_wait_share": 0.4, "memory_mb": 200.0, "compute_share": 0.4}
    assert merged([first]) is first
    assert merged([first, second]) == {
        **shared,
        "data_wait_share": 0.4,
        "memory_mb": 300.0,
        "compute_share": pytest.approx(0.3),
        "ranks": {
            "data_wait_share": [0.1, 0.4],
            "memory_mb": [300.0, 200.0],
            "compute_share": [0.2, 0.4],
        },
    }
    del first["compute_share"], second["compute_share"]
    assert "compute_share" not in merged([first, second])["ranks"]
