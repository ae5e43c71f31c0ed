"""Numbers that are not finite, far too large, or too many for the memory, from the command line."""

import json

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run
from iddpm.data.batches import Batches
from iddpm.networks import UNet
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, step_of


@pytest.fixture
def command(tmp_path, tiny):
    """Arguments that train on floats, which can hold a NaN."""
    x = np.random.default_rng(0).uniform(-1, 1, (40, 1, 16)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    settings = [*tiny, "data.layout=NCL", "training.max_bad_steps=4", "training.save_every=5"]
    options = [part for setting in settings for part in ("-s", setting)]
    return ["train", str(tmp_path / "x.npy"), "--out", str(tmp_path / "run"), *options]


def spoil(monkeypatch, steps, value, rows=slice(2, 3)):
    read = Batches.__getitem__

    def spoiled(self, step):
        batch = read(self, step)
        if step in steps:
            batch.x[rows] = value
        return batch

    monkeypatch.setattr(Batches, "__getitem__", spoiled)


def test_one_item_that_is_not_a_number_once(tmp_path, command, monkeypatch, capsys):
    spoil(monkeypatch, [6], float("nan"))
    assert run([*command, "--steps", "12"]) == 0
    out = tmp_path / "run"
    record = json.loads((out / "bad_steps.jsonl").read_text())
    item = record["items"][0]
    items = iddpm.load(out).config.training.batch_size
    assert (record["step"], record["bad_items"], items) == (7, 1, 8)
    assert f"first of {item['key']} at t={item['t']}" in capsys.readouterr().out
    checkpoint = load_checkpoint(out)
    assert checkpoint.state["skipped"] == 1
    assert checkpoint.state["ema"] == {"ema_0.9999": 11}
    for named in checkpoint.tensors.values():
        assert all(value.isfinite().all() for value in named.values())


def test_nothing_but_such_items_from_some_step_on(tmp_path, command, monkeypatch, capsys):
    out = tmp_path / "run"
    with monkeypatch.context() as broken:
        spoil(broken, range(12, 1000), float("nan"), slice(None))
        assert run([*command, "--steps", "100"]) == 1
        error = capsys.readouterr().err
        assert error.startswith("error: 4 steps in a row were skipped, up to step")
        assert len(error.splitlines()) == 1
        said = json.loads((out / "exit.json").read_text())
        assert (said["status"], said["reason"], said["step"]) == (1, "diverged", 16)
        assert said["message"] in error
        assert [step_of(path) for path in list_checkpoints(out)] == [5, 10]
        assert run(["train", "--resume", "--out", str(out)]) == 1  # as before, and no earlier
        assert json.loads((out / "exit.json").read_text())["step"] == 16
    assert run(["train", "--resume", "--out", str(out), "--steps", "20"]) == 0
    assert load_checkpoint(out).step == 20


def test_a_row_that_was_cut_by_a_stop_does_not_end_the_next_start_at_once(
    tmp_path, command, monkeypatch
):
    """What diverged may be taken up again with other settings, and then has all its tries."""
    out = tmp_path / "run"
    with monkeypatch.context() as broken:
        spoil(broken, range(1000), float("nan"))
        assert run([*command, "--max-time", "0.001"]) == 0  # after one bad step
        assert load_checkpoint(out).state["bad_in_a_row"] == 1
        assert run(["train", "--resume", "--out", str(out), "--max-time", "0.001"]) == 0
        assert run(["train", "--resume", "--out", str(out)]) == 1
        assert json.loads((out / "exit.json").read_text())["step"] == 4  # an exact resume
        assert run(["train", "--resume", "--out", str(out)]) == 1
        assert json.loads((out / "exit.json").read_text())["step"] == 6  # four more
    assert run(["train", "--resume", "--out", str(out), "--steps", "8"]) == 0


def test_a_spike_is_left_out_when_so_set(tmp_path, command, monkeypatch):
    spoil(monkeypatch, [45], 1e4)
    assert (
        run(
            [
                *command,
                "--steps",
                "50",
                "-s",
                "training.spike_guard=20",
                "-s",
                "diffusion.predicts=x0",
            ]
        )
        == 0
    )
    out = tmp_path / "run"
    record = json.loads((out / "bad_steps.jsonl").read_text())
    assert (record["step"], record["cause"]) == (46, "spike")
    state = load_checkpoint(out).state
    assert (state["skipped"], len(state["spikes"]["norms"])) == (1, 50)


def test_memory_that_runs_out_halves_the_microbatch_when_so_set(
    tmp_path, command, monkeypatch, capsys
):
    forward = UNet.forward

    def limited(self, x, *rest, **options):
        if len(x) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(self, x, *rest, **options)

    monkeypatch.setattr(UNet, "forward", limited)
    assert run([*command, "--steps", "6"]) == 1
    error = capsys.readouterr().err
    assert "with 8 items at a time: continue with --resume and -s training.microbatch=4" in error
    out = tmp_path / "run"
    assert json.loads((out / "exit.json").read_text())["reason"] == "out of memory"
    halve = ["-s", "training.on_out_of_memory=halve"]
    assert run(["train", "--resume", "--out", str(out), *halve]) == 0
    assert "training.microbatch is now 4" in capsys.readouterr().out
    assert load_checkpoint(out).step == 6
