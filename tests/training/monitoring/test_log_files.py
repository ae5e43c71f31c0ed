import csv
import json
import os
import warnings

import pytest

from iddpm.training.monitoring.log_files import COLUMNS, LogFiles, read_log


def rows(directory):
    with open(directory / "log.csv") as file:
        return list(csv.DictReader(file))


def test_a_resume_drops_what_it_repeats(tmp_path):
    log = LogFiles(tmp_path)
    for k in (1, 2, 3):
        log.write({"step": k, "loss": float(k)})
    log.close()
    with open(tmp_path / "log.jsonl", "a") as file:
        file.write('{"step": 4, "lo')  # cut short by a crash
    log = LogFiles(tmp_path, start_step=2)
    log.write({"step": 3, "loss": 30.0})
    log.close()
    assert [(r["step"], r["loss"]) for r in read_log(tmp_path)] == [(1, 1), (2, 2), (3, 30)]
    assert [(r["step"], r["loss"]) for r in rows(tmp_path)] == [
        ("1", "1.0"), ("2", "2.0"), ("3", "30.0"),
    ]  # fmt: skip


def test_the_table_has_a_place_for_everything_and_the_lines_have_the_rest(tmp_path):
    log = LogFiles(tmp_path)
    log.write({"step": 5, "skipped": 0, "ranks": {"memory_mb": [1.0, 2.0]}})
    log.close()
    (row,) = rows(tmp_path)
    assert tuple(row) == COLUMNS
    assert (row["step"], row["skipped"], row["loss"]) == ("5", "0", "")
    assert read_log(tmp_path)[0]["ranks"] == {"memory_mb": [1.0, 2.0]}


class FullDisk:
    """A file that takes some bytes and no more, until there is room."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = data[: self.room]
        self.room -= len(taken)
        return self.file.write(taken)

    def close(self):
        self.file.close()


def test_a_full_disk_is_said_once_and_nothing_is_lost(tmp_path):
    log = LogFiles(tmp_path)
    log.write({"step": 1, "loss": 1.0})
    disks = [FullDisk(file._file, 7) for file in (log._jsonl, log._csv)]
    log._jsonl._file, log._csv._file = disks
    with pytest.warns(UserWarning, match=r"cannot be written .*No space left") as said:
        log.write({"step": 2, "loss": 2.0})  # the first seven bytes of each line
    assert sorted(os.path.basename(str(w.message).split()[0]) for w in said) == [
        "log.csv", "log.jsonl",
    ]  # fmt: skip
    assert [r["step"] for r in read_log(tmp_path)] == [1], "half a line is no record"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log.write({"step": 3, "loss": 3.0})
        for disk in disks:
            disk.room = 10**6
        log.write({"step": 4, "loss": 4.0})
        log.close()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4]
    assert [row["loss"] for row in rows(tmp_path)] == ["1.0", "2.0", "3.0", "4.0"]


class Listener:
    name = "the listener"

    def __init__(self, fails_at=None):
        self.fails_at = fails_at
        self.heard = []

    def write(self, record):
        self.heard.append(record["step"])
        if record["step"] == self.fails_at:
            raise RuntimeError("no connection")

    def close(self):
        self.heard.append("close")


def test_a_tracker_that_fails_is_left_out(tmp_path):
    good, bad = Listener(), Listener(fails_at=2)
    log = LogFiles(tmp_path, trackers=[bad, good])
    log.write({"step": 1})
    with pytest.warns(UserWarning, match="the listener gets no more records.*no connection"):
        log.write({"step": 2})
    log.write({"step": 3})
    log.close()
    assert bad.heard == [1, 2]
    assert good.heard == [1, 2, 3, "close"]
    assert [r["step"] for r in read_log(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize(
    "line",
    [b"{}", b"null", b"[1]", b"\xff\xfe", b'{"step": "x"}', b'{"step": true}', b'{"step": 1.5}',
     b'{"step": 1, "loss": "x"}', b'{"step": 1, "ranks": 3}', b'{"step": 1, "ranks": {"a": []}}',
     b"[" * 100_000, b"x"],
)  # fmt: skip
def test_a_line_that_is_no_record_is_left_out_with_a_warning(tmp_path, line):
    whole = b'{"step": 1, "loss": 0.5}\n'
    (tmp_path / "log.jsonl").write_bytes(whole + line + b"\n" + whole.replace(b"1", b"2"))
    with pytest.warns(UserWarning, match="1 line without a record, the first of them line 2"):
        assert [record["step"] for record in read_log(tmp_path)] == [1, 2]
    (tmp_path / "log.jsonl").write_bytes(whole + line)  # a crash may leave that
    assert [record["step"] for record in read_log(tmp_path)] == [1]
