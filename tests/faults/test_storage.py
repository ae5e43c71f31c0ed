"""Disks that fill up, turn read-only or damage files, and signals while a checkpoint is written."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path

import pytest
import torch

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.runtime.errors import NotSaved
from iddpm.training.checkpoints import saver, weights
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint, step_of
from iddpm.training.loop import train_loop
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.training.stop import Stop
from tests.conftest import final_tensors, wait_until
from tests.training.test_loop import batches, everything, make, settings

CHILD = Path(__file__).with_name("child.py")


def steps(directory):
    return [step_of(path) for path in list_checkpoints(directory)]


def hidden(directory):
    return sorted(path.name for path in (directory / "checkpoints").glob(".*"))


def go(directory, total=40, before_step=lambda step: None, **options):
    """Train with a checkpoint every 10 steps; return why it stopped and the state."""
    state, step = make()
    if (directory / "checkpoints").exists():
        state.restore(load_checkpoint(directory))

    def noticed():
        for k, batch in enumerate(batches(state.step, total), state.step):
            before_step(k)
            yield batch

    options = {"save_every": 10, "keep_checkpoints": 2, "log_every": 1} | options
    stop = train_loop(
        directory, state, step, noticed(), settings(total, **options), reporter=SilentReporter()
    )
    return stop, state


@pytest.fixture
def same(tmp_path):
    """Say whether a state is that of an uninterrupted run, bit for bit."""
    _, whole = go(tmp_path / "whole")

    def equal(state):
        (a, n), (b, m) = everything(whole), everything(state)
        return n == m and a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)

    return equal


def settle():
    """Wait until no checkpoint is being written."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join()


class Disk:
    """Let writing to files of checkpoints fail by an error from now on, or for some times."""

    def __init__(self, monkeypatch):
        self.error, self.times = None, 0
        original = os.fsync

        def fsync(descriptor):
            if self.error is not None and self.times:
                self.times -= 1
                raise OSError(self.error, os.strerror(self.error))
            original(descriptor)

        monkeypatch.setattr(weights.os, "fsync", fsync)
        monkeypatch.setattr(saver, "PAUSES", (0.01, 0.02, 0.03))

    def fail(self, error, times=10**9):
        self.error, self.times = error, times


@pytest.fixture
def disk(monkeypatch):
    return Disk(monkeypatch)


ERRORS = {
    errno.ENOSPC: "No space left on device.*free some space, or lower training.keep_checkpoints",
    errno.EDQUOT: "Disk quota exceeded.*free some of your quota, or lower .*",
    errno.EROFS: "Read-only file system.*make it writable again",
    errno.EIO: "Input/output error.*check the disk",
}


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_passes_is_tried_again(tmp_path, disk, same, error):
    def before_step(k):
        if k == 15:
            settle()
            disk.fail(error, times=3)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stop, state = go(tmp_path / "run", before_step=before_step)
    assert stop is Stop.FINISHED
    assert disk.times == 0
    assert steps(tmp_path / "run") == [30, 40]
    assert same(state)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_stays_a_while_costs_a_checkpoint_and_no_more(tmp_path, disk, same, error):
    out = tmp_path / "run"

    def before_step(k):
        if k == 15:
            settle()
            disk.fail(error)
        if k == 25:
            settle()
            assert steps(out) == [10]
            assert hidden(out) == []
            assert load_checkpoint(out).step == 10
            disk.fail(None)

    said = rf"step 20 could not be written \({ERRORS[error]}; step_00000010 is kept; training"
    with pytest.warns(UserWarning, match=said) as caught:
        stop, state = go(out, before_step=before_step, keep_checkpoints=9)
    assert stop is Stop.FINISHED
    assert steps(out) == [10, 30, 40]
    assert same(state)
    (message,) = {str(warning.message) for warning in caught}
    assert f"network.safetensors in {out / 'checkpoints'}; " in message
    assert " MB free): " in message


def test_an_error_at_the_end_ends_the_run_with_the_last_checkpoint_intact(tmp_path, disk, same):
    out = tmp_path / "run"

    def before_step(k):
        if k == 35:
            settle()
            disk.fail(errno.ENOSPC)

    with pytest.raises(NotSaved, match=r"step 40 could not.*space left.*step_00000030 is kept$"):
        go(out, before_step=before_step)
    assert steps(out) == [20, 30]
    assert hidden(out) == []
    disk.fail(None)
    stop, state = go(out)
    assert stop is Stop.FINISHED
    assert same(state)
    assert [record["step"] for record in read_log(out)] == list(range(1, 41))


def test_what_is_written_beside_checkpoints_never_ends_a_run(tmp_path, monkeypatch):
    """Snapshots of averages, pictures, the pointers and the removal of old checkpoints."""

    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    state, step = make()
    for name in ("loop.write_snapshot", "stop.write_exit"):
        monkeypatch.setattr(f"iddpm.training.{name}", refuse)
    for name in ("point_to_latest", "point_to_best", "rotate"):
        monkeypatch.setattr(f"iddpm.training.checkpoints.saver.{name}", refuse)
    monkeypatch.setattr(saver, "PAUSES", ())
    with pytest.warns(UserWarning, match="step 4") as caught:
        stop = train_loop(
            tmp_path, state, step, batches(0, 4),
            settings(4, save_every=2, snapshot_every=4, preview_every=4, validate_every=4),
            reporter=SilentReporter(), preview=refuse, validate=lambda network: 1.0,
        )  # fmt: skip
    assert stop is Stop.FINISHED
    assert steps(tmp_path) == [2, 4]
    assert load_checkpoint(tmp_path).step == 4
    said = {str(warning.message).partition(":")[0] for warning in caught}
    assert said == {
        "the averages of step 4 are missing from the snapshots",
        "there is no picture of step 4",
        "finished at step 4, which exit.json does not contain",
        f"{tmp_path}/checkpoints/step_00000002 is written, but latest does not name it",
        f"{tmp_path}/checkpoints/step_00000004 is written, but latest does not name it",
        "best does not name step 4, which is the best",
        "an old checkpoint could not be removed",
    }


def test_what_a_kill_prevented_after_a_commit_is_done_when_a_run_goes_on(tmp_path, monkeypatch):
    """Also where there is no step left to take."""
    out = tmp_path / "run"
    with monkeypatch.context() as killed:
        for name in ("rotate", "point_to_latest"):
            killed.setattr(f"iddpm.training.checkpoints.saver.{name}", lambda *_, **__: None)
        go(out)
    assert steps(out) == [10, 20, 30, 40]
    assert not (out / "latest").exists()
    go(out)
    assert steps(out) == [30, 40]
    assert (out / "latest").read_text() == "step_00000040\n"


def train(data, out, *options, **keywords):
    return iddpm.train(data, out=out, settings=options, reporter=SilentReporter(), **keywords)


def start(facts, *arguments):
    """Run the command line in a process of its own, in a world with some facts."""
    command = [sys.executable, str(CHILD), json.dumps(facts), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def final(directory):
    return final_tensors(directory), load_checkpoint(directory).state


def same_runs(a, b):
    (tensors, state), (others, other_state) = final(a), final(b)
    assert tensors.keys() == others.keys()
    assert all(torch.equal(tensors[name], others[name]) for name in tensors)
    assert state == other_state
    return True


@pytest.mark.system
def test_a_limit_on_the_size_of_files(tmp_path, array_file, tiny):
    out = tmp_path / "run"
    train(array_file, out, *tiny, "training.steps=4")
    train(array_file, tmp_path / "whole", *tiny, "training.steps=8")
    limit = (list_checkpoints(out)[0] / "network.safetensors").stat().st_size - 1
    child = start(
        {"file_size": limit, "pauses": [0.01]},
        *("train", "--resume", "--out", out, "--steps", 8, "-s", "training.save_every=6"),
    )
    _, errors = child.communicate()
    assert child.returncode == 1
    reason = r"could not be written \(File too large: network.safetensors in .*\(ulimit -f\); "
    kept = "step_00000004 is kept"
    assert re.search(f"^warning: the checkpoint of step 6 {reason}{kept}; training", errors, re.M)
    assert re.search(f"^error: the checkpoint of step 8 {reason}{kept}$", errors, re.M)
    assert "Traceback" not in errors
    assert json.loads((out / "exit.json").read_text())["reason"] == "not saved"
    assert steps(out) == [4]
    assert hidden(out) == []
    train(None, out, "training.save_every=1000", resume=True)
    assert same_runs(out, tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of its own that holds 2 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(path)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if made.returncode:
        pytest.skip(f"this user may not mount a tmpfs: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "-l", str(path)], check=True)


def test_a_disk_that_is_full_for_a_while(small_disk, tmp_path, monkeypatch, same):
    monkeypatch.setattr(saver, "PAUSES", (0.01, 0.01))
    out, filler = small_disk / "run", small_disk / "filler"

    def before_step(k):
        settle()
        if k == 15:
            with suppress(OSError), open(filler, "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            assert shutil.disk_usage(small_disk).free == 0
        if k == 25:
            assert load_checkpoint(out).step == 10
            filler.unlink()

    said = r"step 20 could not be written \(No space left on device.*; 0 MB free\): free some space"
    with pytest.warns(UserWarning, match=said):
        stop, state = go(out, before_step=before_step)
    assert stop is Stop.FINISHED
    assert steps(out) == [30, 40]
    assert hidden(out) == []
    assert same(state)
    assert [record["step"] for record in read_log(out)] == list(range(1, 41))


def test_a_damaged_file_of_any_kind_costs_no_more_than_its_checkpoint(
    tmp_path, array_file, tiny, capsys
):
    out = tmp_path / "run"
    learned = ("training.timestep_sampler=loss_second_moment", "training.ema_rates=[0.9,0.99]")
    train(array_file, out, *tiny, *learned, "training.steps=6", "training.save_every=4")
    train(array_file, tmp_path / "whole", *tiny, *learned, "training.steps=8")
    newest = list_checkpoints(out)[-1]
    kinds = sorted(path.name for path in newest.iterdir())
    assert kinds == [
        "checksums.json", "ema_0.9.safetensors", "ema_0.99.safetensors", "network.safetensors",
        "optimizer.safetensors", "settings.json", "state.json", "timesteps.safetensors",
    ]  # fmt: skip
    for name in kinds:
        content = (newest / name).read_bytes()
        flipped = bytearray(content)
        flipped[len(content) * 2 // 3] ^= 4
        for damaged in (content[: len(content) // 2], bytes(flipped)):
            (newest / name).write_bytes(damaged)
            said = "step_00000006 is damaged.*; using step_00000004 instead"
            with pytest.warns(UserWarning, match=said):
                assert load_checkpoint(out).step == 4, name
        (newest / name).write_bytes(content)
    (newest / "optimizer.safetensors").write_bytes(b"")
    assert command_line(["train", "--resume", "--out", str(out), "--steps", "8"]) == 0
    assert re.search(f"^warning: checkpoint .*{said}$", capsys.readouterr().err, re.M)
    assert same_runs(out, tmp_path / "whole")


@pytest.mark.system
def test_signals_while_a_checkpoint_is_written(tmp_path, array_file, tiny):
    """One lets it be finished; a second one leaves at once. Neither damages anything."""
    out, facts = tmp_path / "run", {"hold": str(tmp_path), "grace": 0.1}
    hold, held, heard = (tmp_path / name for name in ("hold", "held", "heard"))
    options = [word for setting in tiny for word in ("-s", setting)]
    go_on = ("train", "--resume", "--out", out, "--steps", 100000)

    every = ("-s", "training.save_every=20")
    child = start(facts, "train", array_file, *go_on[2:], *options, *every)
    wait_until(lambda: steps(out), child)
    hold.touch()
    wait_until(held.exists, child)
    before = steps(out)
    child.send_signal(signal.SIGTERM)
    hold.unlink()
    said, errors = child.communicate()
    assert child.returncode == 143, errors
    assert "Traceback" not in errors, errors
    assert "SIGTERM: saving" in said
    assert hidden(out) == []
    newest = steps(out)[-1]
    assert newest > before[-1]
    assert (out / "latest").read_text() == f"step_{newest:08d}\n"
    assert json.loads((out / "exit.json").read_text())["step"] == newest

    before = steps(out)
    hold.touch()
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        for path in (held, heard):
            path.unlink(missing_ok=True)
        child = start(facts, *go_on)
        wait_until(held.exists, child)
        child.send_signal(number)
        wait_until(heard.exists, child)
        child.send_signal(number)
        _, errors = child.communicate()  # though the checkpoint is held to the end
        assert child.returncode == status, errors
        assert "Traceback" not in errors, errors
        assert steps(out) == before
        assert load_checkpoint(out).step == newest
    assert hidden(out), "killed outright: what was begun is still there"
    run = train(None, out, f"training.steps={newest + 1}", resume=True)
    assert hidden(out) == []
    assert load_checkpoint(run.directory).step == newest + 1
