"""What errors say to people."""

import errno
import os

import pytest

from iddpm.runtime.errors import in_words, warned


def test_numbers_of_the_system_are_left_out():
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a/b.npz")
    assert in_words(full) == "No space left on device: a/b.npz"
    assert in_words(OSError("a sentence of ours")) == "a sentence of ours"
    assert in_words(ValueError("another")) == "another"
    said = r"^the table is not kept: No space .*: a/b\.npz$"
    with pytest.warns(UserWarning, match=said), warned("the table is not kept"):
        raise full
