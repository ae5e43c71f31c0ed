"""What messages suggest in place of files that are missing is there."""

import re

import pytest

from iddpm.data.sources.shard_paths import pattern_of, shard_paths


def make(folder, *names):
    paths = [folder / name for name in names]
    for path in paths:
        path.touch()
    return paths


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["a-000.tar"], "a-000.tar"),
        (["000.tar", "001.tar", "002.tar"], "{000..002}.tar"),
        (["9.tar", "10.tar"], "10.tar"),  # sorted by name, so not in order
        (["a1-1.tar", "a2-1.tar"], "a{1..2}-1.tar"),
        (["000.tar", "002.tar"], "000.tar"),
        (["a-00000-of-00003.arrow", "a-00001-of-00003.arrow"], "a-{00000..00001}-of-00003.arrow"),
    ],
)
def test_a_pattern_names_the_files_that_it_was_made_of(tmp_path, names, pattern):
    paths = make(tmp_path, *names)
    found = pattern_of(paths)
    assert found == str(tmp_path / pattern)
    assert set(shard_paths(tmp_path / pattern, ".tar")) <= set(paths)


def test_what_is_missing_and_what_is_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{tmp_path}/none does not exist")):
        shard_paths(tmp_path / "none/{000..002}.tar", ".tar")
    with pytest.raises(FileNotFoundError, match=r"has no \.tar$"):
        shard_paths(tmp_path / "{000..002}.tar", ".tar")
    make(tmp_path, "000.tar", "001.tar")
    with pytest.raises(FileNotFoundError, match=r"/\{000\.\.001\}\.tar exists for this pattern$"):
        shard_paths(tmp_path / "{000..002}.tar", ".tar")
    with pytest.raises(FileNotFoundError, match=r"holds 2 \.tar, such as 000\.tar$"):
        shard_paths(tmp_path / "{003..004}.tar", ".tar")
