"""DDP and FSDP2 on two processes against one process with the same global batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

import iddpm
from iddpm.runtime.processes import ALONE
from iddpm.training.checkpoints.checkpoint import load_checkpoint
from iddpm.training.checkpoints.ema_snapshots import list_snapshots
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.timesteps import LossSecondMomentTimesteps
from tests.training import two_ranks

pytestmark = pytest.mark.system

KINDS = ("ddp", "fsdp")
ROOT = Path(__file__).parents[2]


def launched(count, folder):
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    return subprocess.Popen(
        [sys.executable, "-m", *launch, two_ranks.__file__, str(folder), *KINDS],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What one process computes, and the folder where two wrote what they compute."""
    folder = tmp_path_factory.mktemp("engines")
    state, step = two_ranks.make(ALONE, "ddp", timesteps=LossSecondMomentTimesteps(20))
    two_ranks.take(state, step, 3)
    two_ranks.save(ALONE, folder / "one", state)
    process = launched(2, folder)
    try:
        tensors, numbers = two_ranks.compare(ALONE, "ddp")
        numbers["curve"] = two_ranks.take(state, step, 4)
        numbers["after"] = two_ranks.take(state, step, 4)
        said, _ = process.communicate()
    finally:
        process.kill()
    assert (folder / "crossed.json").is_file(), said
    assert process.returncode == 0, said
    return folder, tensors, numbers


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_see_what_one_sees_bit_for_bit(both, kind):
    folder, one, _ = both
    two = load_file(folder / f"{kind}.t")
    names = [name for name in one if name.startswith("seen/")]
    assert len(names) == 8
    for name in names:
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["gradient", "weights", "average", "history"])
def test_two_ranks_learn_what_one_learns(both, kind, what):
    folder, one, _ = both
    two = load_file(folder / f"{kind}.t")
    names = [name for name in one if name.startswith(what)]
    assert names
    for name in names:
        assert float((one[name] - two[name]).abs().max()) < 1e-5, name


def test_accumulation_equals_one_large_batch(both):
    folder, one, _ = both
    for tensors in (one, *(load_file(folder / f"{kind}.t") for kind in KINDS)):
        for name, value in tensors.items():
            if name.startswith("gradient/whole/"):
                for other in ("microbatch_1", "microbatch_2"):
                    parts = tensors[name.replace("whole", other)]
                    torch.testing.assert_close(parts, value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_what_one_rank_meets_leaves_the_step_out_on_all(both, kind):
    folder, _, one = both
    assert one["skipped"] == [True]
    assert json.loads((folder / f"{kind}.json").read_text())["skipped"] == [True, True]


def test_ranks_take_equal_steps_of_muon(both):
    folder, _, _ = both
    first, second = json.loads((folder / "ddp.json").read_text())["muon"]
    assert first == second


@pytest.mark.parametrize("kind", KINDS)
def test_held_out_loss_is_that_of_one(both, kind):
    folder, _, one = both
    two = json.loads((folder / f"{kind}.json").read_text())
    assert two["held_out"] == pytest.approx(one["held_out"], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_by_one_and_resumed_by_two(both, kind):
    folder, _, one = both
    two = json.loads((folder / f"{kind}.json").read_text())
    assert two["same_as_saved"]
    assert two["curve"] == pytest.approx(one["curve"], rel=1e-4)
    assert two["after"] == pytest.approx(one["after"], rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_by_two_and_resumed_by_one(both, kind):
    folder, _, _ = both
    parts = sorted(path.name for path in folder.glob(f"{kind}/checkpoints/*/network*"))
    sharded = ["network.1-of-2.safetensors", "network.2-of-2.safetensors"]
    assert parts == (sharded if kind == "fsdp" else ["network.safetensors"])
    state, step = two_ranks.resumed(ALONE, "ddp", folder / kind)
    assert state.step == 7
    checkpoint = load_checkpoint(folder / kind)
    for name, value in two_ranks.everything(state).items():
        group, _, key = name.partition("/")
        assert torch.equal(value, checkpoint.tensors[group][key]), name
    released = load_file(folder / f"{kind}.w")
    assert released.keys() == state.network.state_dict().keys()
    for name, value in released.items():
        assert torch.equal(checkpoint.tensors["network"][name], value), name
    curve = two_ranks.take(state, step, 4)
    two = json.loads((folder / f"{kind}.json").read_text())
    assert curve == pytest.approx(two["after"], rel=1e-4)


def test_saved_by_one_engine_and_resumed_by_the_other(both):
    folder, _, _ = both
    for kind, curve in json.loads((folder / "crossed.json").read_text()).items():
        saved = json.loads((folder / f"{kind}.json").read_text())
        assert curve == pytest.approx(saved["after"], rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_snapshots_of_averages_are_whole(both, kind):
    folder, _, _ = both
    snapshot = load_file(list_snapshots(folder / kind)[-1])
    average = load_checkpoint(folder / kind).tensors["power_0.1"]
    assert len(snapshot) == len(average)
    for name, value in average.items():
        assert torch.equal(snapshot[f"0.1/{name}"], value), name


def test_three_ranks_resume_bit_for_bit(tmp_path):
    process = launched(3, tmp_path)
    try:
        said, _ = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert json.loads((tmp_path / "exact.json").read_text()) == {"ddp": True, "fsdp": True}


def test_one_process_talks_to_nobody(tmp_path, array_file, tiny, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("one process needs no process group")

    talks = "init_process_group all_reduce all_gather all_gather_object broadcast_object_list"
    for name in [*talks.split(), "barrier", "destroy_process_group"]:
        monkeypatch.setattr(dist, name, refuse)
    options = [*tiny, "training.steps=3", "training.parallel=fsdp", "training.validate_every=2"]
    iddpm.train(array_file, out=tmp_path / "run", settings=options, reporter=SilentReporter())
    assert (tmp_path / "run/model.safetensors").is_file()
