"""What several test folders share."""

import gc
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from iddpm.builders import proposal
from iddpm.builders.memory_footprint import Footprint, footprint
from iddpm.config import ResolvedConfig
from iddpm.training.checkpoints.checkpoint import load_checkpoint

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what is in its background
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Tests run in parallel, so that more threads each would fight for the cores; `make test THREADS=2`.
THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
torch.set_num_threads(THREADS)


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of every garbage collection: they took 5 %."""
    gc.collect()
    gc.freeze()


TINY = (
    "model.model_channels=8",
    "model.num_res_blocks=1",
    "model.channel_mult=[1,2]",
    "model.attention_downsampling=[2]",
    "model.num_heads=2",
    "model.dropout=0",
    "diffusion.num_steps=50",
    "diffusion.predicts=eps",
    "training.batch_size=8",
    "training.learning_rate=1e-3",
    "training.warmup_steps=0",
    "training.anneal=none",
    "training.ema_rates=[0.9999]",
    "training.log_every=5",
    "training.preview_every=0",
    "training.validate_every=0",
    "training.precision=float32",  # what is measured to be faster differs by machine
    f"training.threads={THREADS}",
    "sampling.steps=5",
)


def images(count: int = 60, size: int = 8, channels: int = 1) -> np.ndarray:
    """Return smooth random uint8 pictures [N, H, W, C]."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    a, b, c = generator.uniform(0.5, 2, (3, count, channels, 1, 1))
    values = np.sin(2 * np.pi * (a * x + b * y) + 6 * c)
    return ((values + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what is made once out of the home of who runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IDDPM_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_power_failure() -> Iterator[None]:
    """Do not wait for the disk, a hundredth of a second each time; only a power failure would tell.

    That files are synced, and before they are renamed, is tested by the calls.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)  # which also refuses what is no open file
        yield


@pytest.fixture(autouse=True, scope="session")
def _memory_counted_once() -> Iterator[None]:
    """Count the memory of the same settings once: it takes half of the time of a tiny training."""
    known: dict[tuple[int, str], Footprint] = {}
    left_out = {"data": True, "sampling": True, "training": {"steps"}}

    def counted(config: ResolvedConfig, number: int = 4, own: nn.Module | None = None) -> Footprint:
        if own is not None:
            return footprint(config, number, own)
        key = number, config.model_dump_json(exclude=left_out)
        if key not in known:
            known[key] = footprint(config, number)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proposal, "footprint", counted)
        yield


def final_tensors(directory: Path, step: int | None = None) -> dict[str, torch.Tensor]:
    """Return all that a checkpoint holds, by group and name; the newest by default."""
    checkpoint = load_checkpoint(directory, step)
    return {f"{g}/{k}": v for g, named in checkpoint.tensors.items() for k, v in named.items()}


def assert_same_state(first: Path, second: Path, step: int | None = None) -> None:
    """Two runs' checkpoints, the newest by default, hold the same tensors, bit for bit."""
    a, b = final_tensors(first, step), final_tensors(second, step)
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def wait_until(happened: Callable[[], object], *running: subprocess.Popen[str]) -> None:
    """Wait for what other processes do; of these none may end before.

    No number of seconds belongs here: pytest's own time limit, which only a hang meets, ends it.
    """
    while not happened():
        for process in running:
            assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def array_file(tmp_path: Path) -> Path:
    """A .npz of 60 gray 8x8 pictures with 3 classes."""
    path = tmp_path / "pictures.npz"
    np.savez(path, arr_0=images(), arr_1=np.arange(60) % 3)
    return path


@pytest.fixture
def tiny() -> Sequence[str]:
    """Settings of a network that trains a step in milliseconds."""
    return TINY
