import io
import json
import os
import tarfile

import pytest

from iddpm.data.cache import user_cache
from iddpm.data.sources import tar_index
from iddpm.data.sources.tar_index import read_index

MEMBERS = {"a.jpg": b"123", "a.cls": b" 7\n", "d/b.jpg": b"", "x" * 150 + ".jpg": b"z" * 2000}


def pack(path, members, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("layout", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_offsets_are_where_the_bytes_are(layout, tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w", format=layout) as archive:
        for name, data in MEMBERS.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    content = (tmp_path / "a.tar").read_bytes()
    found = {m.name: content[m.offset : m.offset + m.size] for m in read_index(tmp_path / "a.tar")}
    assert found == MEMBERS
    assert [m.text for m in read_index(tmp_path / "a.tar")] == [None, "7", None, None]


def test_headers_are_read_once_until_the_file_changes(tmp_path, monkeypatch):
    shard = pack(tmp_path / "a.tar", MEMBERS)
    first = read_index(shard)
    with monkeypatch.context() as patch:
        patch.setattr(tar_index, "_read_headers", lambda path: pytest.fail("read again"))
        assert read_index(shard) == first
    pack(shard, {"other.jpg": b"1"})
    assert [member.name for member in read_index(shard)] == ["other.jpg"]
    size, facts = shard.stat().st_size, shard.stat()
    pack(shard, {"anoth.jpg": b"1"})  # of the same size
    os.utime(shard, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert shard.stat().st_size == size
    assert [member.name for member in read_index(shard)] == ["anoth.jpg"]


def test_a_kept_index_that_is_damaged_or_cannot_be_kept_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "cache"))
    shard = pack(tmp_path / "a.tar", MEMBERS)
    first = read_index(shard)
    (kept,) = (user_cache() / "tar").iterdir()
    for damage in ('{"facts": [', "[]", json.dumps({"facts": [0, 0, 0], "members": []})):
        kept.write_text(damage)
        assert read_index(shard) == first
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "file"))
    assert read_index(shard) == first


def test_names_that_are_no_text_survive(tmp_path):
    shard = pack(tmp_path / "a.tar", {os.fsdecode(b"\xff\xfe.jpg"): b"1"})
    assert read_index(shard) == read_index(shard)
    assert os.fsencode(read_index(shard)[0].name) == b"\xff\xfe.jpg"


@pytest.mark.parametrize(("mode", "method"), [("w:gz", "gzip"), ("w:bz2", "bzip2"), ("w:xz", "xz")])
def test_a_compressed_shard_is_refused(mode, method, tmp_path):
    shard = pack(tmp_path / "a.tar", MEMBERS, mode)
    with pytest.raises(ValueError, match=rf"a\.tar is compressed \({method}\).*unpack it"):
        read_index(shard)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"", r"a\.tar is damaged \(empty file\)"),
        (lambda data: b"nothing like it" * 90, r"a\.tar is damaged"),
        (lambda data: data[: 512 * 2 + 100], r"a\.tar is damaged at or after its member a\.jpg"),
        (lambda data: data[: 512 * 3 + 1], r"at or after its member b\.cls"),
        (lambda data: data[: 512 * 2], r"a\.tar is damaged at or after its member a\.jpg"),
        (lambda data: data.replace(b"b.cls", b"b!cls"), r"at or after its member a\.jpg"),
        (lambda data: data[: 512 * 5 + 2000], r"a\.tar is damaged at or after its member x\.jpg"),
    ],
)
def test_a_damaged_shard_is_named_with_the_member_before(damage, message, tmp_path):
    shard = pack(tmp_path / "a.tar", {"a.jpg": b"123", "b.cls": b"7", "x.jpg": b"z" * 3000})
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(ValueError, match=message):
        read_index(shard)


def test_a_member_twice_is_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            archive.addfile(tarfile.TarInfo("a.jpg"), io.BytesIO())
    with pytest.raises(ValueError, match=r"a\.tar holds a\.jpg twice"):
        read_index(tmp_path / "a.tar")
