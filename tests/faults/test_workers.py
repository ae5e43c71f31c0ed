"""Processes that read ahead and die or hang: what was learned is saved, and resuming is exact."""

import json
import os
import signal

import pytest
import torch

import iddpm
from iddpm.data.batches import Batches
from iddpm.runtime.errors import WorkerLost
from iddpm.training.checkpoints.checkpoint import load_checkpoint
from iddpm.training.monitoring.terminal import SilentReporter
from tests.data.deliveries import Deliveries

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # forking among threads

BROKEN_STEP = 7


def train(data, out, settings, **options):
    return iddpm.train(data, out=out, settings=settings, reporter=SilentReporter(), **options)


def die(deliveries):
    os.kill(os.getpid(), signal.SIGKILL)


def hang(deliveries):
    deliveries.wait_for(10**6)


@pytest.mark.parametrize(
    ("fate", "message"),
    [(die, "worker 1 of 2 was killed by SIGKILL"), (hang, "no data came from 2 workers in 5 sec")],
)
def test_a_worker_that_is_lost_costs_nothing(
    tmp_path, array_file, tiny, monkeypatch, fate, message
):
    settings = [*tiny, "training.steps=12", "data.flip=true", "training.save_every=100"]
    train(array_file, tmp_path / "whole", settings)

    read, parent = Batches.__getitem__, os.getpid()

    def fated(self, step):
        if step == BROKEN_STEP and os.getpid() != parent:
            deliveries.wait_for(BROKEN_STEP)
            fate(deliveries)
        return read(self, step)

    out = tmp_path / "parts"
    with monkeypatch.context() as broken:
        deliveries = Deliveries(broken, patient_until=BROKEN_STEP)
        broken.setattr(Batches, "__getitem__", fated)
        workers = ["data.workers=2", "data.worker_timeout=5"]
        with pytest.raises(WorkerLost, match=message):
            train(array_file, out, [*settings, *workers])
    assert load_checkpoint(out).step == BROKEN_STEP
    said = json.loads((out / "exit.json").read_text())
    assert (said["status"], said["reason"], said["step"]) == (1, "worker lost", BROKEN_STEP)

    train(None, out, ["data.workers=1"], resume=True)  # other numbers change nothing
    assert json.loads((out / "exit.json").read_text())["reason"] == "finished"
    a, b = (load_checkpoint(tmp_path / name, 12) for name in ("whole", "parts"))
    assert a.tensors.keys() == b.tensors.keys()
    for group, named in a.tensors.items():
        for name, value in named.items():
            assert torch.equal(value, b.tensors[group][name]), (group, name)
    assert a.state == b.state
