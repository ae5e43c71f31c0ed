import json
import shutil

import numpy as np
import pytest
from PIL import Image

from iddpm.data.fingerprint import differences, fingerprint, read_fingerprint
from iddpm.data.sources.open import open_source
from tests.conftest import images


@pytest.fixture
def folder(tmp_path):
    for k, picture in enumerate(images(6)):
        (tmp_path / "a" / f"class{k % 2}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture[..., 0]).save(tmp_path / f"a/class{k % 2}/{k}.png")
    return tmp_path / "a"


def look(path, **options):
    return json.loads(json.dumps(fingerprint(open_source(path, **options))))


def test_the_same_data_elsewhere_is_the_same(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "b")  # with other times
    assert look(folder) == look(tmp_path / "b")
    assert differences(look(folder), look(tmp_path / "b")) == ""


def add(folder):
    shutil.copy(folder / "class0/0.png", folder / "class0/6.png")


def rename(folder):
    (folder / "class0/0.png").rename(folder / "class0/00.png")


def replace(folder):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / "class0/0.png")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (add, "7 items instead of 6"),
        (rename, "items with other names, or in another order"),
        (replace, "files with other sizes"),
    ],
)
def test_a_folder_that_changes(folder, change, words):
    before = look(folder)
    change(folder)
    assert differences(before, look(folder)) == words


def test_labels_that_change(folder):
    path = folder / "labels.csv"
    lines = [f"class{k % 2}/{k}.png,{k % 3}" for k in range(6)]
    path.write_text("\n".join(["file,label", *lines]))
    before = look(folder, labels=str(path))
    lines[0], lines[1] = lines[0][:-1] + "1", lines[1][:-1] + "0"
    path.write_text("\n".join(["file,label", *lines]))
    assert differences(before, look(folder, labels=str(path))) == "other labels"


def test_an_array_of_the_same_size_with_other_values(tmp_path):
    values = images(100)
    np.save(tmp_path / "x.npy", values)
    before = look(tmp_path / "x.npy")
    values[-1, 0, 0, 0] ^= 1  # the last item is among those that are looked at
    np.save(tmp_path / "x.npy", values)
    assert differences(before, look(tmp_path / "x.npy")) == "other values"


def test_a_fact_that_an_older_version_did_not_know_is_no_difference(folder):
    facts = look(folder)
    assert differences({"items": 6, "gone": 1}, facts) == ""


def test_a_damaged_file_is_refused_and_a_missing_one_is_not(tmp_path):
    assert read_fingerprint(tmp_path) is None
    (tmp_path / "data.json").write_text('{"items": 6')
    with pytest.raises(ValueError, match=r"data\.json is damaged .*delete it"):
        read_fingerprint(tmp_path)


@pytest.mark.parametrize("suffix", [".bmp", ".tif"])
def test_another_file_of_the_same_size_is_noticed(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    pixels = np.zeros((64, 64), np.uint8)
    Image.fromarray(pixels).save(path)
    before, size = look(tmp_path), path.stat().st_size
    Image.fromarray(pixels + 1).save(path)
    assert path.stat().st_size == size
    assert differences(before, look(tmp_path)) == "files with other contents"
    del before["bytes"]  # as an earlier version wrote it
    assert differences(before, look(tmp_path)) == ""
