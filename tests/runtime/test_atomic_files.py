import json
import os
import stat
import subprocess
import sys

import pytest

from iddpm.runtime.atomic_files import (
    _HOST,
    clear_temporaries,
    fsync_directory,
    write_atomically,
    write_json,
    write_text,
)


def test_text_and_json_are_written_in_full(tmp_path):
    path = tmp_path / "new" / "folder" / "note.txt"
    assert write_text(path, "héllo\n") == path
    assert path.read_bytes() == "héllo\n".encode()
    write_json(tmp_path / "a.json", {"ключ": [1, 2.5, None]})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"ключ": [1, 2.5, None]}
    assert "ключ" in text
    assert text.endswith("}\n")


def test_a_reader_never_meets_half_a_file(tmp_path):
    path = tmp_path / "weights.npz"
    path.write_text("old")
    seen = []

    def write(temporary):
        temporary.write_text("half")
        seen.append((path.read_text(), temporary.parent, temporary.suffix, temporary != path))

    write_atomically(path, write)
    # While it was being written the old one stood, and the new one lay on the same disk.
    assert seen == [("old", tmp_path, ".npz", True)]
    assert path.read_text() == "half"
    assert os.listdir(tmp_path) == ["weights.npz"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path, error):
    path = tmp_path / "a.json"
    path.write_text("old")

    def write(temporary):
        temporary.write_text("half")
        raise error("stopped")

    with pytest.raises(error, match="stopped"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_that_cannot_be_written_leaves_the_old_file(tmp_path):
    path = write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(path, object())
    assert json.loads(path.read_text()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="no file modes on Windows")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_file_has_the_mode_of_any_new_file(tmp_path, mask, mode):
    before = os.umask(mask)
    try:
        path = write_text(tmp_path / "a.txt", "x")
        assert stat.S_IMODE(path.stat().st_mode) == mode
        assert os.umask(mask) == mask  # it was put back
    finally:
        os.umask(before)


def test_a_path_may_be_a_string(tmp_path):
    assert write_text(str(tmp_path / "a.txt"), "x").read_text() == "x"


def test_fsync_directory_takes_any_path(tmp_path):
    fsync_directory(tmp_path)
    fsync_directory(tmp_path / "none")


def test_what_a_killed_process_left_is_removed_and_what_runs_is_not(tmp_path):
    script = (
        "import os, pathlib, signal\n"
        "from iddpm.runtime.atomic_files import write_atomically\n"
        "kill = lambda path: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_atomically(pathlib.Path({str(tmp_path)!r}) / 'a.npz', kill)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    (left,) = os.listdir(tmp_path)
    assert left.startswith(".a.tmp_")
    other = tmp_path / left.replace(f"_{left.split('_')[2]}_", f"_{os.getppid()}_")
    other.write_text("somebody is writing this")
    foreign = tmp_path / ".b.tmp_abcd1234.npz"
    foreign.write_text("of an older version, or no temporary file at all")
    write_text(tmp_path / "c.txt", "x")
    assert sorted(os.listdir(tmp_path)) == sorted([other.name, foreign.name, "c.txt"])


def test_what_a_thread_of_this_process_writes_is_left_to_it(tmp_path):
    def write(temporary):
        clear_temporaries(tmp_path)  # as a saver does while a tracker writes
        temporary.write_text("kept")

    stale = tmp_path / ".weights.tmp_00000000_1_abcdefgh"
    stale.touch()
    assert write_atomically(tmp_path / "id", write).read_text() == "kept"
    assert not stale.exists()
    seen = tmp_path / f".id.tmp_{_HOST}_{os.getpid()}_abcdefgh"
    seen.touch()
    clear_temporaries(tmp_path)
    assert seen.exists()
