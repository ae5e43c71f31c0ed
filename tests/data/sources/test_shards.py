import io
import json
import os
import pickle

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.array_files import ArrayFiles
from iddpm.data.sources.open import open_source
from iddpm.data.sources.pictures import Pictures
from iddpm.data.sources.shard_paths import shard_paths
from tests.data.sources.test_tar_index import pack


def picture(value, size=(6, 4), suffix="png"):
    file = io.BytesIO()
    Image.new("L", size, value).save(file, suffix)
    return file.getvalue()


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def shards(folder, count=3, each=4, more=lambda number: {}, item=picture, suffix="png"):
    """Number ``count`` shards from 000; item n is filled with n and named 0000n."""
    for shard in range(count):
        members = {}
        for n in range(shard * each, (shard + 1) * each):
            members[f"{n:05}.{suffix}"] = item(n)
            members |= {f"{n:05}.{name}": data for name, data in more(n).items()}
        pack(folder / f"{shard:03}.tar", members)
    return folder


def test_any_sample_is_read_from_any_shard(tmp_path):
    source = open_source(shards(tmp_path / "set"))
    assert isinstance(source, Pictures)
    assert (len(source), source.shape, source.bits, source.labels) == (12, (1, 4, 6), 8, None)
    assert [source.key(n) for n in (0, 11)] == ["00000", "00011"]
    assert source.read_many([11, 0, 5])[:, 0, 0, 0].tolist() == [11, 0, 5]
    assert [stamp.name for stamp in source.stamps()] == ["000.tar", "001.tar", "002.tar"]
    assert source.name == "set"


@pytest.mark.parametrize(
    ("pattern", "numbers"),
    [("{000..002}.tar", [0, 1, 2]), ("00{1..2}.tar", [1, 2]), ("001.tar", [1]), ("", [0, 1, 2])],
)
def test_shards_are_named_by_file_folder_or_pattern(pattern, numbers, tmp_path):
    shards(tmp_path)
    where = tmp_path / pattern if pattern else tmp_path
    assert [path.name for path in shard_paths(where, ".tar")] == [f"{n:03}.tar" for n in numbers]
    assert len(open_source(str(where))) == 4 * len(numbers)


def test_a_missing_shard_is_named(tmp_path):
    shards(tmp_path)
    said = r"no shard .*/003\.tar: .*/\{000\.\.002\}\.tar exists for this pattern"
    with pytest.raises(FileNotFoundError, match=said):
        open_source(tmp_path / "{000..004}.tar")
    with pytest.raises(ValueError, match="write the lower number first"):
        open_source(tmp_path / "{004..000}.tar")


def test_no_open_file_travels_or_stays(tmp_path):
    source = open_source(shards(tmp_path))
    before = os.listdir("/proc/self/fd")
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read_many(range(12))[:, 0, 0, 0].tolist() == list(range(12))
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.mark.parametrize(
    ("more", "rule", "names"),
    [
        (lambda n: {"cls": b"%d\n" % (n % 3)}, "auto", ("0", "1", "2")),
        (lambda n: {"cls": [b"dog", b"ant"][n % 2]}, "cls", ("ant", "dog")),
        (lambda n: {"json": json.dumps({"label": n % 3}).encode()}, "auto", ("0", "1", "2")),
        (lambda n: {"json": json.dumps({"a": f"k{n % 2}"}).encode()}, "a", ("k0", "k1")),
        (lambda n: {"json": b'{"a": 1}', "cls": b"1"}, "none", ()),
        (lambda n: {"json": b'{"a": 1}', "txt": b"words"}, "auto", ()),
    ],
)
def test_labels_by_each_rule(more, rule, names, tmp_path):
    source = open_source(shards(tmp_path, more=more), labels=rule)
    assert source.class_names == names
    if not names:
        assert source.labels is None
        return
    stored = [more(n).get("cls") or more(n)["json"] for n in range(12)]
    read = [names[label] for label in source.labels]
    assert all(name in text.decode() for name, text in zip(read, stored, strict=True))
    assert len(set(source.labels.tolist())) == len(names)


def test_labels_may_follow_names_and_tables(tmp_path):
    members = {f"{kind}/{kind}_{n}.png": picture(n) for n in range(2) for kind in ("cat", "ant")}
    pack(tmp_path / "a.tar", members)
    (tmp_path / "t.csv").write_text("file,label\n" + "".join(f"{m},x\n" for m in members))
    for rule, names in [
        ("auto", ("ant", "cat")),
        ("prefix", ("ant", "cat")),
        ("folder", ("ant", "cat")),
        ("t.csv", ("x",)),
    ]:
        assert open_source(tmp_path / "a.tar", labels=rule).class_names == names


@pytest.mark.parametrize(
    ("more", "rule", "message"),
    [
        (lambda n: {"cls": b"1"} if n else {}, "auto", r"000\.tar: 00000\.png has no \.cls"),
        (lambda n: {"json": b'{"b": 1.5}'}, "b", r"00000\.png holds 1\.5 as the class"),
        (lambda n: {"json": b'{"b": 1}'}, "a", "holds no such key"),
        (lambda n: {"json": b"{"}, "a", r"000\.tar: 00000\.json is not JSON"),
        (lambda n: {}, "a", "holds no such key"),
    ],
)
def test_labels_that_lack_are_named(more, rule, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_source(shards(tmp_path, more=more), labels=rule)


def test_several_members_raise_an_error(tmp_path):
    shards(tmp_path, more=lambda n: {"seg.png": picture(100 + n), "pyd": b"pickled"})
    with pytest.raises(ValueError, match=r"00000 has several.*\(png, seg\.png\).*column=png"):
        open_source(tmp_path)
    assert open_source(tmp_path, column="png").read(3).max() == 3
    assert open_source(tmp_path, column=".SEG.png").read(3).max() == 103
    with pytest.raises(ValueError, match=r"column=pyd is not a picture.*pickles are never loaded"):
        open_source(tmp_path, column="pyd")
    with pytest.raises(ValueError, match=r"no sample of .* has a jpg; members end in png, pyd"):
        open_source(tmp_path, column="jpg")


def test_what_holds_no_items_is_refused(tmp_path):
    pack(tmp_path / "a.tar", {"a.pkl": b"1", "b.txt": b"1", "__c__.png": b"", "d": b""})
    with pytest.raises(ValueError, match=r"end in pkl, txt \(pickles are never loaded\)"):
        open_source(tmp_path / "a.tar")
    pack(tmp_path / "b.tar", {"a.png": picture(1), "b.txt": b"1"})
    with pytest.raises(ValueError, match=r"1 samples of .* have no item, first .*b\.tar: b"):
        open_source(tmp_path / "b.tar")
    pack(tmp_path / "c.tar", {"a.png": picture(1), "b.npy": array(np.zeros(3))})
    with pytest.raises(ValueError, match=r"mixes pictures and arrays \(a\.png, b\.npy\)"):
        open_source(tmp_path / "c.tar")


def test_pictures_of_mixed_formats_and_sizes_are_one_set(tmp_path):
    files = {"a.jpeg": picture(9, (50, 40), "jpeg"), "b.BMP": picture(9, (9, 30), "bmp")}
    pack(tmp_path / "a.tar", files)
    source = open_source(tmp_path / "a.tar", image_size=(5, 4))
    assert (source.read_many([0, 1]) == np.full((2, 1, 5, 4), 9)).all()


def test_a_damaged_member_is_named_with_its_shard_or_left_out(tmp_path):
    files = {f"{n}.png": picture(n, (50, 50)) for n in range(4)}
    files["2.png"] = files["2.png"][:-30]
    pack(tmp_path / "a.tar", files)
    with pytest.raises(ValueError, match=r"a\.tar: 2\.png is damaged .*data\.corrupt=skip"):
        open_source(tmp_path / "a.tar").read(2)
    with pytest.warns(UserWarning, match="skipped 1 damaged pictures of .*: 2"):
        source = open_source(tmp_path / "a.tar", corrupt="skip")
    assert [source.key(n) for n in range(3)] == ["0", "1", "3"]
    assert source.read_many([0, 1, 2])[:, 0, 0, 0].tolist() == [0, 1, 3]


def test_a_shard_cut_after_it_was_opened_is_named(tmp_path):
    source = open_source(shards(tmp_path))
    with open(tmp_path / "001.tar", "r+b") as file:
        file.truncate(600)
    with pytest.raises(ValueError, match=r"001\.tar is truncated in 00005\.png"):
        source.read(5)


def test_arrays_in_shards(tmp_path):
    shards(tmp_path, item=lambda n: array(np.full((5, 6, 3), n, np.uint16)), suffix="npy")
    source = open_source(tmp_path)
    assert isinstance(source, ArrayFiles)
    assert (source.shape, source.bits) == ((3, 5, 6), 16)
    items = source.read_many([7, 0])
    assert (items.dtype, items[:, 0, 0, 0].tolist()) == (np.uint16, [7, 0])
    assert open_source(tmp_path, layout="NDHW").shape == (1, 5, 6, 3)
    with pytest.raises(ValueError, match=r"00000\.npy has 3 channels .* but channels is 1"):
        open_source(tmp_path, channels=1)


def test_images_in_arrays_are_resized(tmp_path):
    shards(tmp_path, item=lambda n: array(np.full((8, 8, 3), n, np.uint8)), suffix="npy")
    source = open_source(tmp_path, image_size=(4, 5))
    assert (source.read(7) == np.full((3, 4, 5), 7)).all()


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (np.zeros((2, 9)), r"00011\.npy is float64 of shape \(2, 9\) while .* \(1, 9\)"),
        (np.zeros((1, 9), np.float32), r"00011\.npy is float32 "),
        (np.full((1, 9), np.nan), r"00011\.npy holds NaN"),
        (np.full((1, 9), 7.0), r"00011\.npy holds floats in \[7, 7\]"),
        (np.array([[{}]]), r"00011\.npy holds pickled Python objects"),
    ],
)
def test_an_array_that_does_not_fit_is_named_when_it_is_read(last, message, tmp_path):
    values = [*[np.full((1, 9), 0.5)] * 11, last]
    shards(tmp_path, item=lambda n: array(values[n]), suffix="npy")
    source = open_source(tmp_path)
    assert (source.read(3).dtype, source.read(3).max()) == (np.float32, 0.5)
    with pytest.raises(ValueError, match=message):
        source.read(11)


def test_a_folder_with_pictures_beside_an_archive_is_a_folder_of_pictures(tmp_path):
    shards(tmp_path)
    (tmp_path / "a.png").write_bytes(picture(200))
    assert open_source(tmp_path).read(0).max() == 200
