"""A long run takes no more memory and no more open files than a short one."""

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import iddpm
from iddpm.training.checkpoints.checkpoint import list_checkpoints
from iddpm.training.monitoring.terminal import SilentReporter

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="reads what Linux says"),
]

EVERYTHING = (
    "training.save_every=100",
    "training.keep_checkpoints=2",
    "training.log_every=10",
    "training.validate_every=100",
    "training.preview_every=200",
    "training.tensorboard=true",
    "training.posthoc_ema=true",
    "training.timestep_sampler=loss_second_moment",
    "model.class_conditional=true",
    "data.held_out=0.2",
    "data.flip=true",
)


class Gauge(SilentReporter):
    """Notes what is taken every few steps: bytes, open files, threads, objects, tensors."""

    def __init__(self, steps):
        self.every, self.rarely = max(1, steps // 500), steps // 6
        self.seen = np.ones((steps // self.every, 4))  # all there from the start: it must not grow
        self.objects = []

    def advance(self, step):
        row, rest = divmod(step, self.every)
        if not rest:
            with open("/proc/self/statm") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            files = len(os.listdir("/proc/self/fd"))
            self.seen[row - 1] = step, resident, files, threading.active_count()
        if step % self.rarely == self.rarely // 2:
            gc.collect()
            self.objects.append(len(gc.get_objects()))


def slope(steps, values):
    """Return the least-squares slope and its standard error."""
    x = steps - steps.mean()
    rate = (x * values).sum() / (x * x).sum()
    rest = values - values.mean() - rate * x
    return rate, np.sqrt((rest * rest).sum() / (len(x) - 2) / (x * x).sum())


def measure(array_file, out, tiny, steps, warm_up):
    """Train, and return the bytes that a step adds and what is known of their error.

    Raises:
        AssertionError: open files, threads or Python's objects, tensors among them, grow.
    """
    gauge = Gauge(steps)
    iddpm.train(
        array_file,
        out=out,
        settings=[*tiny, *EVERYTHING, f"training.steps={steps}"],
        reporter=gauge,
    )
    assert list_checkpoints(out)[-1].name == f"step_{steps:08d}"
    step, resident, files, threads = gauge.seen[gauge.seen[:, 0] > warm_up].T
    rate, error = slope(step, resident)
    print(
        f"{steps} steps, of which the first {warm_up} do not count: memory grows by {rate:.0f} "
        f"+- {error:.0f} bytes a step, {resident[0] / 1e6:.1f} to {resident[-1] / 1e6:.1f} MB; "
        f"open files {files[0]:.0f} to {files[-1]:.0f}, threads {threads[0]:.0f} to "
        f"{threads[-1]:.0f}; objects {gauge.objects[2]} to {gauge.objects[-1]}"
    )
    for counts in (files, threads):
        # A save in the background has files open and a thread: what stays is the least of a while.
        half = len(counts) // 2
        assert counts[:half].min() == counts[half:].min()
    assert gauge.objects[-1] - gauge.objects[2] < steps / 100, "an object a step stays behind"
    return rate, error


def kept_for_backward(directory):
    """Return the bytes of activations that a batch of the run keeps for its backward pass."""
    run = iddpm.load(directory)
    network, batch = run.denoiser.network.train().requires_grad_(), run.config.training.batch_size
    kept = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        labels = torch.zeros(batch, dtype=torch.int64)
        out = network(torch.zeros(batch, *run.shape), torch.zeros(batch), y=labels)
    assert out.requires_grad
    return sum(size for place, size in kept.items() if place not in weights)


def test_a_run_of_some_hundred_steps_is_flat(tmp_path, array_file, tiny):
    rate, _ = measure(array_file, tmp_path / "run", tiny, 600, warm_up=200)
    # Allocators settle for some thousand steps; a step keeps far more for its backward pass.
    assert rate < kept_for_backward(tmp_path / "run") / 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_run_of_10000_steps_is_flat(tmp_path, array_file, tiny):
    rate, error = measure(array_file, tmp_path / "run", tiny, 10_000, warm_up=2000)
    assert rate - 2 * error < 200, "less than a batch of the smallest pictures"
