import os
import socket

import pytest

from iddpm.lock import DirectoryLock


def test_the_second_is_told_who_holds_it(tmp_path):
    with DirectoryLock(tmp_path):
        holder = rf"process {os.getpid()} on {socket.gethostname()}"
        with pytest.raises(
            ValueError, match=rf"another process \({holder}\) is training in .*--out"
        ):
            DirectoryLock(tmp_path).__enter__()
    with DirectoryLock(tmp_path):
        pass


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
