"""What surrounds the process: another one on the same run, and a clock that jumps."""

import itertools
import json
import os
import time

import iddpm
from iddpm.cli.main import run
from iddpm.runtime.directory_lock import DirectoryLock
from iddpm.training.checkpoints.checkpoint import list_checkpoints, load_checkpoint
from iddpm.training.monitoring.log_files import read_log
from iddpm.training.monitoring.terminal import SilentReporter


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


YEAR = 365 * 24 * 3600.0


def test_a_clock_that_jumps_decides_nothing(tmp_path, array_file, tiny, monkeypatch):
    """Time limits and intervals go by a clock that nobody sets, and files by their steps."""
    settings = [
        *tiny,
        "training.save_every=4",
        "training.save_minutes=10",
        "training.max_time=1h",
        "training.keep_checkpoints=9",
    ]
    train(array_file, tmp_path / "calm", [*settings, "training.steps=12"])

    now, jumps = time.time(), itertools.cycle([0.0, 30 * YEAR, -30 * YEAR])
    out = tmp_path / "jumping"
    with monkeypatch.context() as set_again:
        set_again.setattr(time, "time", lambda: now + next(jumps))
        train(array_file, out, [*settings, "training.steps=8"])
        for age, path in enumerate(list_checkpoints(out)):  # the newest seems the oldest
            for file in (path, *path.iterdir()):
                os.utime(file, (now - age * YEAR, now - age * YEAR))
        assert load_checkpoint(out).step == 8
        train(None, out, ["training.steps=12"], resume=True)

    calm, jumping = list_checkpoints(tmp_path / "calm"), list_checkpoints(out)
    assert [path.name for path in jumping] == [path.name for path in calm]
    for one, other in zip(calm, jumping, strict=True):
        for file in one.iterdir():
            if file.name in ("settings.json", "checksums.json"):  # 8 and 12 steps were requested
                continue
            assert file.read_bytes() == (other / file.name).read_bytes(), file
    records = [read_log(tmp_path / "calm"), read_log(out)]
    assert [r["step"] for r in records[0]] == [5, 10, 12]
    assert [r["step"] for r in records[1]] == [5, 8, 10, 12]
    assert all(0 < r["seconds"] < 600 and r["items_per_second"] > 0 for r in records[1])
    assert max(r["time"] for r in records[1]) - min(r["time"] for r in records[1]) > YEAR
