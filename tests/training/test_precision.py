"""Which device a process computes on."""

import pytest
import torch

from iddpm.training.precision import choose_device


@pytest.fixture
def two_gpus(monkeypatch):
    """A machine with two GPUs, as far as PyTorch tells; returns which one became current."""
    current = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_each_process_of_a_machine_has_its_own_gpu(two_gpus, monkeypatch, name):
    assert choose_device(name) == torch.device("cuda")
    assert two_gpus == []
    for number in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        assert choose_device(name) == torch.device("cuda", number)
    assert two_gpus == [0, 1]
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="there are 2, so use --nproc-per-node 2, or device cpu"):
        choose_device(name)
    assert choose_device("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="use auto, cpu, cuda or cuda:1"):
        choose_device("gpu")
