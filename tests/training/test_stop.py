import errno
import json
import signal

import pytest

from iddpm.runtime.errors import RankLost, TrainingDiverged
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.training.stop import Stop, failures_noted, read_exit, write_exit


def read(directory):
    return json.loads((directory / "exit.json").read_text())


def fail(directory, error, ranks=ALONE):
    with pytest.raises(type(error)), failures_noted(directory, ranks, lambda: 7):
        raise error


def test_statuses_of_a_process():
    assert [stop.exit_status for stop in Stop] == [
        0, 0, 128 + signal.SIGINT, 128 + signal.SIGTERM, 128 + signal.SIGUSR1
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status", "reason", "message"),
    [
        (TrainingDiverged("ten in a row"), 1, "diverged", "ten in a row"),
        (ValueError("no picture"), 2, "bad input", "no picture"),
        (FileNotFoundError("no file"), 2, "bad input", "no file"),
        (KeyboardInterrupt(), 130, "stopped by SIGINT", "left at once, without saving"),
        (ZeroDivisionError("ours"), 1, "ZeroDivisionError", "ours"),
    ],
)
def test_a_failure_is_noted(tmp_path, error, status, reason, message):
    fail(tmp_path, error)
    assert read(tmp_path) == {
        "status": status, "reason": reason, "step": 7, "rank": None, "message": message,
    }  # fmt: skip


def test_the_note_of_an_earlier_start_goes(tmp_path):
    write_exit(tmp_path, 143, "stopped by SIGTERM", 3, "earlier")
    with failures_noted(tmp_path, ALONE, lambda: 7):
        assert not (tmp_path / "exit.json").exists()
    assert not (tmp_path / "exit.json").exists()


def test_who_lost_another_rank_leaves_standing_what_that_one_wrote(tmp_path):
    fail(tmp_path, RankLost("rank 0 is gone"), Ranks(1, 2))
    assert read(tmp_path)["reason"] == "rank lost"
    fail(tmp_path, MemoryError("mine"), Ranks(1, 2))
    assert (read(tmp_path)["reason"], read(tmp_path)["rank"]) == ("MemoryError", 1)
    fail(tmp_path, RankLost("rank 1 is gone"), Ranks(2, 3))
    assert read(tmp_path)["message"] == "mine"


def test_a_note_that_cannot_be_written_hides_no_error(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("iddpm.training.stop.write_json", full)
    fail(tmp_path, ValueError("the cause"))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "null", '{"status": 0}', '{"status": "0", "reason": 1}', "\xff"]
)
def test_a_damaged_file_says_nothing(tmp_path, text):
    write_exit(tmp_path, 0, "finished", 7, "finished at step 7")
    assert read_exit(tmp_path)["step"] == 7
    (tmp_path / "exit.json").write_text(text, encoding="latin-1")
    assert read_exit(tmp_path) == {}
