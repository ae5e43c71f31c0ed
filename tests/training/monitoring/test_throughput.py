import os

import pytest
import torch

from iddpm.training.monitoring.throughput import Effort, matmul_rate, peak_memory
from iddpm.training.precision import Precision

CPU = torch.device("cpu")


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads what Linux says")
def test_memory_is_the_most_so_far():
    before = peak_memory(CPU)
    more = before - resident() + 100_000_000  # 100 MB above the peak, whatever ran before
    block = torch.ones(more // 4)
    grown = peak_memory(CPU)
    del block
    assert grown - before == pytest.approx(100e6, rel=0.1)
    assert peak_memory(CPU) == pytest.approx(grown, rel=0.01), "it does not fall again"


def test_the_device_is_measured_once_and_only_by_a_run_that_lasts(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr("iddpm.training.monitoring.throughput.time.monotonic", lambda: now[0])
    monkeypatch.setattr(
        "iddpm.training.monitoring.throughput.matmul_rate", lambda *what: calls.append(what) or 1e12
    )
    effort = Effort(Precision("float32", CPU), lambda: 5e9)
    now[0] = 59.0
    assert effort.read(100.0).keys() == {"memory_mb"}
    now[0] = 61.0
    assert effort.read(100.0)["compute_share"] == pytest.approx(100 * 5e9 / 1e12)
    assert effort.read(50.0)["compute_share"] == pytest.approx(0.25)
    assert calls == [(CPU, torch.float32)]
    assert "compute_share" not in Effort(Precision("float32", CPU), later=0.0).read(1.0)


def test_a_full_device_is_measured_once_and_unknown(monkeypatch):
    calls = []

    def full(*what):
        calls.append(what)
        raise torch.OutOfMemoryError

    monkeypatch.setattr("iddpm.training.monitoring.throughput.matmul_rate", full)
    effort = Effort(Precision("float32", CPU), lambda: 5e9, later=0.0)
    assert effort.read(1.0).keys() == effort.read(1.0).keys() == {"memory_mb"}
    assert len(calls) == 1


def test_the_rate_of_a_matrix_product_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    rate = matmul_rate(CPU, torch.float32, seconds=0.0)
    assert 1e8 < rate < 1e14
    assert torch.equal(torch.get_rng_state(), before)
