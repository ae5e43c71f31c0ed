"""What happens to the process: another one on the same run, signals twice, clocks that jump."""

import json
import os

import iddpm
from iddpm.cli import run
from iddpm.lock import DirectoryLock
from iddpm.training.checkpoint import load_checkpoint
from iddpm.training.terminal import SilentReporter


def train(data, out, settings, **options):
    return iddpm.train(data, out=out, settings=settings, reporter=SilentReporter(), **options)


def test_a_second_process_on_a_run_is_refused_and_changes_nothing(
    tmp_path, array_file, tiny, capsys
):
    out = tmp_path / "run"
    train(array_file, out, [*tiny, "training.steps=2"])
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with DirectoryLock(out):  # flock tells two openings apart, whichever process they are in
        before[out / "lock"] = (out / "lock").read_bytes()
        assert run(["train", "--resume", "--out", str(out), "--steps", "4"]) == 2
    error = capsys.readouterr().err
    assert f"another process (process {os.getpid()} on " in error
    assert len(error.splitlines()) == 1
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert json.loads((out / "exit.json").read_text())["reason"] == "finished"
    assert run(["train", "--resume", "--out", str(out), "--steps", "4"]) == 0
    assert load_checkpoint(out).step == 4
