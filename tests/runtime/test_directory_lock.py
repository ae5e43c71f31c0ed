import errno
import fcntl
import os
import socket
import threading

import pytest

from iddpm.runtime.directory_lock import DirectoryLock, holder, waiting_lock


def test_the_error_names_the_holder(tmp_path):
    with DirectoryLock(tmp_path):
        process = f"process {os.getpid()} on {socket.gethostname()}"
        assert holder(tmp_path) == process
        with pytest.raises(
            ValueError, match=rf"another process \({process}\) is training in .*--out"
        ):
            DirectoryLock(tmp_path).__enter__()
    assert holder(tmp_path) is None
    assert holder(tmp_path / "nowhere") is None
    with DirectoryLock(tmp_path):
        pass


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path):
    (tmp_path / "lock").touch()
    with open(tmp_path / "lock") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # as holder() does for a moment
        timer = threading.Timer(0.05, fcntl.flock, (file, fcntl.LOCK_UN))
        timer.start()
        with DirectoryLock(tmp_path):
            assert holder(tmp_path) is not None
        timer.join()


def test_a_forked_process_does_not_hold_the_lock_on(tmp_path):
    """A loader worker may outlive the training process, which must be able to start anew."""
    lock = DirectoryLock(tmp_path)
    lock.__enter__()
    (ready, say), (end, leave) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.write(say, b"x")
        os.read(end, 1)
        os._exit(0)
    try:
        os.read(ready, 1)
        lock.__exit__(None, None, None)
        with DirectoryLock(tmp_path):
            pass
    finally:
        os.write(leave, b"x")
        os.waitpid(child, 0)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_is_not_a_holder(tmp_path, monkeypatch, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(UserWarning, match="has no locks"), DirectoryLock(tmp_path):
        assert holder(tmp_path) is None
    with waiting_lock(tmp_path / "other"):
        pass


def test_an_error_of_the_disk_is_not_a_holder(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), DirectoryLock(tmp_path):
        pass


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder", "pipe"])
def test_a_lock_that_is_no_file_is_refused_and_left_alone(tmp_path, kind):
    theirs, run = tmp_path / "theirs", tmp_path / "run"
    run.mkdir()
    lock = run / "lock"
    if kind == "folder":
        lock.mkdir()
    elif kind == "pipe":
        os.mkfifo(lock)
    elif kind != "hard link":
        lock.symlink_to(theirs)
    if kind in ("link", "hard link"):
        theirs.write_text("of somebody else")
    if kind == "hard link":
        lock.hardlink_to(theirs)
    with pytest.raises(ValueError, match="not a regular file"), DirectoryLock(run):
        pass
    assert lock.is_symlink() == (kind in ("link", "dangling link"))
    assert theirs.exists() == (kind in ("link", "hard link"))
    if theirs.exists():
        assert theirs.read_text() == "of somebody else"
        assert holder(run) is None
