import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.images import ImageFolder
from iddpm.data.sources.open import open_source


def test_a_folder_opens_as_images(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "cat_1.png")
    source = open_source(
        str(tmp_path), image_size=(3, 4), channels=1, labels="prefix", corrupt="skip"
    )
    assert isinstance(source, ImageFolder)
    assert (source.shape, source.class_names) == ((1, 3, 4), ("cat",))


def test_array_files_open_as_arrays(tmp_path):
    array = np.zeros((2, 5, 6, 9), np.uint8)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "b.NPZ".lower(), array, np.array([0, 1]))
    volume = open_source(tmp_path / "a.npy", layout="NDHW")
    assert isinstance(volume, ArraySource)
    assert volume.shape == (1, 5, 6, 9)
    assert open_source(tmp_path / "b.npz", layout="NHWC").shape == (9, 5, 6)
    assert open_source(tmp_path / "b.npz", layout="NHWC", labels="none").labels is None


def test_embedded_names_open():
    source = open_source("digits", image_size=12, labels="none")
    assert (source.shape, source.labels, source.class_names) == ((1, 12, 12), None, ())
    with pytest.raises(ValueError, match="channels is 3"):
        open_source("digits", channels=3)
    with pytest.raises(ValueError, match="'prefix'"):
        open_source("digits", labels="prefix")


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    Image.new("L", (5, 5)).save(tmp_path / "digits/a.png")
    monkeypatch.chdir(tmp_path)
    assert isinstance(open_source("digits"), ImageFolder)


def test_a_near_miss_is_answered():
    with pytest.raises(FileNotFoundError, match=r"did you mean mnist5k\?.*a folder of images"):
        open_source("mnist")


def test_nothing_there_lists_what_works():
    with pytest.raises(FileNotFoundError, match=r"/no/where; data is a folder .*\.npz.*digits"):
        open_source("/no/where")


def test_other_files_are_refused(tmp_path):
    for name, message in [
        ("a.doc", r"a\.doc is a \.doc file; data is a folder"),
        ("a.tar.gz", r"a\.tar\.gz is compressed.*plain \.tar"),
    ]:
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(ValueError, match=message):
            open_source(tmp_path / name)
    (tmp_path / "a.doc").unlink()
    with pytest.raises(ValueError, match="compressed"):
        open_source(tmp_path)


def test_a_column_goes_with_shards_alone(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "cat_1.png")
    with pytest.raises(ValueError, match="column='jpg' needs shards, tables"):
        open_source(tmp_path, column="jpg")


def test_a_folder_of_arrays_points_to_the_file(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 9), np.uint8))
    with pytest.raises(ValueError, match=r"x\.npy; give the file itself"):
        open_source(tmp_path)


def test_a_layout_does_not_go_with_a_folder(tmp_path):
    with pytest.raises(ValueError, match="layout='NHW' is for arrays"):
        open_source(tmp_path, layout="NHW")
