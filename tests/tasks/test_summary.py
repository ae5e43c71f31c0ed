"""What the files of a run say about it, while it runs and afterwards."""

import json
import os
import socket

import pytest

from iddpm.cli.main import run as command
from iddpm.runtime.directory_lock import DirectoryLock
from iddpm.tasks.summary import summarize

NOW = 2_000_000_000.0


def write_run(directory, records, *settings):
    directory.mkdir(exist_ok=True)
    model = "{channels: 1, size: [8, 8], channel_mult: [1], attention_downsampling: []}"
    lines = [f"model: {model}", "training:", "  steps: 1000", "  batch_size: 10", *settings]
    (directory / "config.yaml").write_text("\n".join(lines))
    (directory / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def records(steps, seconds_each=2.0, start=0, **more):
    """Records of one session that ended 30 s ago, every 50 steps."""
    count = steps // 50
    return [
        {
            "step": start + 50 * k,
            "time": NOW - 30 - (count - k) * 50 * seconds_each,
            "seconds": 50 * k * seconds_each,
            "loss": 100.0 - k,
            "items_per_second": 10 / seconds_each,
            "data_wait_share": 0.25,
            "memory_mb": 640.0,
            "skipped": 3,
            **more,
        }
        for k in range(1, count + 1)
    ]


def info_lines(directory, capsys, monkeypatch):
    monkeypatch.setattr("iddpm.tasks.summary.time.time", lambda: NOW)
    capsys.readouterr()
    assert command(["info", str(directory)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not any("\x1b" in line for line in lines)
    return {line[:13].strip(): line[13:] for line in lines}


def test_a_run_in_progress(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, [*records(200, 9.0), *records(400, start=200)])
    (tmp_path / "exit.json").write_text('{"status": 0, "reason": "an earlier session"}')
    (tmp_path / "checkpoints/step_00000600").mkdir(parents=True)
    os.utime(tmp_path / "checkpoints/step_00000600", (NOW - 100, NOW - 100))
    with DirectoryLock(tmp_path):
        facts = summarize(tmp_path, NOW)
        lines = info_lines(tmp_path, capsys, monkeypatch)
    assert facts["state"] == "running"
    # 400 steps are left, at 2 s each as in this session; 30 s have passed since the record.
    assert facts["seconds_left"] == pytest.approx(400 * 2.0 - 30)
    assert facts["record_age"] == pytest.approx(30)
    assert facts["loss"]["to"] == 600
    assert (facts["loss_before"]["to"], facts["loss"]["from"]) == (300, 350)
    assert facts["loss"]["mean"] == pytest.approx(100 - sum(range(3, 9)) / 6)
    held_by = f"process {os.getpid()} on {socket.gethostname()}"
    assert lines["state"] == f"running: {held_by}, last log record 30s ago"
    assert lines["training"] == "step 600 of 1000 (60 %), 12m50s left"
    assert lines["loss"].startswith("94.5000 (steps 350 to 600), before that ")
    assert lines["speed"] == "5 items/s, 25.0% of the time waiting for data"
    assert lines["memory"] == "640 MB at peak"
    assert lines["skipped"].startswith("3 steps")
    assert (
        lines["checkpoints"]
        == "step_00000600 (damaged: checksums.json is missing), the last 1m40s ago"
    )


def test_a_run_that_may_be_stuck(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, records(400, 0.01))  # a record every half second, and none for 30 s
    with DirectoryLock(tmp_path):
        assert "stuck" not in info_lines(tmp_path, capsys, monkeypatch)["state"], "30 s are nothing"
        monkeypatch.undo()
        write_run(tmp_path, [r | {"time": r["time"] - 3600} for r in records(400, 0.01)])
        state = info_lines(tmp_path, capsys, monkeypatch)["state"]
    assert state.endswith("1h00m ago; records usually come every 0s, so it may be stuck")


def test_one_record_is_enough_for_a_guess(tmp_path):
    write_run(tmp_path, records(50))
    with DirectoryLock(tmp_path):
        assert summarize(tmp_path, NOW)["seconds_left"] == pytest.approx(950 * 2.0 - 30)


def test_several_ranks(tmp_path, capsys, monkeypatch):
    ranks = {"data_wait_share": [0.1, 0.25], "memory_mb": [600.0, 640.0]}
    write_run(tmp_path, records(100, ranks=ranks, compute_share=0.31))
    lines = info_lines(tmp_path, capsys, monkeypatch)
    assert lines["training"] == "step 100 of 1000 (10 %), on 2 ranks"
    assert lines["speed"] == (
        "5 items/s, 31.0% of the device's peak arithmetic rate, "
        "25.0% of the time waiting for data on rank 1"
    )


@pytest.mark.parametrize(
    ("files", "state"),
    [
        ([], "not started"),
        (["lock"], "not running, without a record of how it ended"),
        (["lock", "exit.json"], "worker lost (exit status 1): a data worker ended"),
    ],
)
def test_a_run_that_does_not_run(tmp_path, capsys, monkeypatch, files, state):
    write_run(tmp_path, records(100))
    said = {"status": 1, "reason": "worker lost", "step": 120, "message": "a data worker ended"}
    for name in files:
        (tmp_path / name).write_text(json.dumps(said) if name == "exit.json" else "")
    lines = info_lines(tmp_path, capsys, monkeypatch)
    assert lines["state"].startswith(state)
    assert "left" not in lines["training"]


def test_a_run_that_has_logged_nothing(tmp_path, capsys, monkeypatch):
    write_run(tmp_path, [])
    (tmp_path / "log.jsonl").write_text('{"step": 50, "lo')
    lines = info_lines(tmp_path, capsys, monkeypatch)
    assert lines["training"] == "step 0 of 1000 (0 %)"
    assert lines["checkpoints"] == "none yet"
    assert "loss" not in lines
