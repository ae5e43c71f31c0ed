"""Data that changes, or moves, between a start and a resume."""

import json
import shutil

import numpy as np
import pytest

from iddpm.cli.main import run
from iddpm.training.checkpoints.checkpoint import load_checkpoint
from tests.conftest import images


@pytest.fixture
def started(tmp_path, tiny):
    """A data file and a run of two steps on it."""
    data, out = tmp_path / "x.npy", tmp_path / "run"
    np.save(data, images())
    options = [word for setting in tiny for word in ("-s", setting)]
    assert run(["train", str(data), "--out", str(out), "--steps", "2", *options]) == 0
    return data, out


def resume(out, *arguments):
    return run(["train", *arguments, "--resume", "--out", str(out), "--steps", "4"])


def test_changed_data_raises_an_error_unless_accepted(started, capsys):
    data, out = started
    before = json.loads((out / "data.json").read_text())
    np.save(data, images(70))
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert resume(out) == 2
    error = capsys.readouterr().err
    assert "70 items instead of 60" in error
    assert "--accept-data" in error
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files

    assert resume(out, "--accept-data") == 0
    assert "continuing although x.npy has changed: 70 items" in capsys.readouterr().out
    assert load_checkpoint(out).step == 4
    now = json.loads((out / "data.json").read_text())
    assert (before["items"], now["items"]) == (60, 70)
    assert resume(out) == 0  # it is the run's data now


def test_data_may_move_and_not_be_exchanged(started, tmp_path, capsys):
    data, out = started
    moved = tmp_path / "elsewhere/y.npy"
    moved.parent.mkdir()
    shutil.move(data, moved)
    other = tmp_path / "other.npy"
    np.save(other, images()[::-1])
    assert resume(out) == 2
    capsys.readouterr()
    assert resume(out, str(other)) == 2
    assert "other.npy has changed" in capsys.readouterr().err
    assert resume(out, str(moved)) == 0
    assert load_checkpoint(out).step == 4


def test_a_run_from_before_goes_on_and_writes_the_file(started):
    _, out = started
    facts = (out / "data.json").read_text()
    (out / "data.json").unlink()
    assert resume(out) == 0
    assert (out / "data.json").read_text() == facts
