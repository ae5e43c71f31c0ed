import io
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from iddpm.cli.main import run
from iddpm.data.sources.open import open_source
from iddpm.data.sources.picture import read_header


def picture(path, shade=0, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, shade, 10)).save(path)


@pytest.mark.parametrize("other", ["a.wav", "sub/a.nii.gz", "a.FLAC"])
def test_items_of_two_kinds_are_refused_by_both(tmp_path, other):
    picture(tmp_path / "cover.jpg")
    (tmp_path / other).parent.mkdir(exist_ok=True)
    (tmp_path / other).write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 picture \(such as cover.jpg\)") as caught:
        open_source(tmp_path)
    assert other in str(caught.value)


def test_files_that_are_not_read_are_counted(tmp_path):
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    for name in ("c.psd", "d.psd", "notes.txt", "labels.csv", ".hidden"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(UserWarning, match=r"read 2 pictures and skipped 2 \.psd.*c\.psd"):
        assert len(open_source(tmp_path)) == 2


def test_a_folder_without_pictures_says_what_is_there(tmp_path):
    (tmp_path / "c.psd").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=r"it holds 1 \.psd; pictures are .*\.png"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train", "val"), "train and val.*like a split.*data.labels=folder"),
        (("Train", "Test", "valid"), "Train and Test and valid.*like a split"),
        (("train2017", "validation"), "like a split"),
        (("training_set", "test_set"), "like a split"),
        (("images", "masks"), "pairs and not like classes.*data.given=.*masks"),
        (("imgs", "Labels"), "pairs and not like classes"),
    ],
)
def test_folders_that_are_no_classes_are_refused(tmp_path, names, words):
    for name in names:
        for k in range(2):
            picture(tmp_path / name / f"{k}.png", 20 * k)
    with pytest.raises(ValueError, match=words):
        open_source(tmp_path)
    assert len(open_source(tmp_path, labels="folder").class_names) == len(names)
    assert open_source(tmp_path, labels="none").labels is None


def test_ordinary_classes_stay_classes(tmp_path):
    for name in ("cat", "training", "image"):
        picture(tmp_path / name / "0.png")
    assert open_source(tmp_path).class_names == ("cat", "image", "training")


def test_a_link_that_leads_nowhere(tmp_path):
    picture(tmp_path / "a.png")
    os.symlink("nowhere.png", tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"gone\.png is a broken link \(to nowhere"):
        open_source(tmp_path)
    with pytest.warns(UserWarning, match=r"skipped broken links: .*gone\.png"):
        source = open_source(tmp_path, corrupt="skip")
    assert [stamp.name for stamp in source.stamps()] == ["a.png"]


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_pipe_is_not_opened(tmp_path, name):
    picture(tmp_path / "b.png")
    os.mkfifo(tmp_path / name)
    with pytest.warns(UserWarning, match=rf"skipped .*{name}: it is a pipe"):
        assert len(open_source(tmp_path)) == 1


def test_escapes_in_names_never_reach_the_terminal(tmp_path, capfd):
    for name in ("cat\x1b[31mRED", "dog\x9b31m"):
        picture(tmp_path / "data" / name / "0.png")
    settings = ["data", "inspect", str(tmp_path / "data"), "--out", str(tmp_path / "x.png")]
    assert run(settings) == 0
    assert run([*settings, "-s", "data.labels=prefix"]) == 2
    said = capfd.readouterr()
    assert r"cat\x1b[31mRED (1)" in said.out
    assert r"dog\x9b31m (1)" in said.out
    assert "error: " in said.err
    assert not set("\x1b\x9b") & set(said.out + said.err)


def test_views_of_samples_are_no_samples(tmp_path, array_file, tiny):
    """A folder that iddpm sample wrote has pictures of several samples beside them."""
    settings = [word for setting in tiny for word in ("-s", setting)]
    trained, out = str(tmp_path / "run"), tmp_path / "samples"
    assert run(["train", str(array_file), *settings, "--steps", "1", "--out", trained]) == 0
    assert run(["sample", trained, "-n", "3", "--steps", "2", "--out", str(out)]) == 0
    assert (out / "grid.png").is_file()
    with pytest.warns(UserWarning, match=r"skipped .*grid\.png: written beside samples to show"):
        source = open_source(out)
    assert [source.key(k) for k in range(len(source))] == [f"{k:06}.png" for k in range(3)]
    (out / "samples.json").unlink()  # then it is a picture like others
    picture(out / "grid.png")
    assert len(open_source(out, image_size=8)) == 4


def test_a_view_of_other_names_is_a_picture(tmp_path):
    picture(tmp_path / "grid.png")
    picture(tmp_path / "0.png")
    manifest = {"complete": True, "made": {}, "files": ["0.png"]}
    (tmp_path / "samples.json").write_text(json.dumps(manifest))
    assert len(open_source(tmp_path)) == 2
    (tmp_path / "samples.json").write_text("{")
    with pytest.warns(UserWarning, match="damaged"):
        assert len(open_source(tmp_path)) == 2


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("order", ["<", ">"])
def test_an_orientation_after_the_pixels_of_a_png(tmp_path, orientation, order):
    pixels = np.arange(4 * 8, dtype=np.uint8).reshape(4, 8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    start = b"II*\0" if order == "<" else b"MM\0*"
    exif = start + struct.pack(order + "IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    plain = file.getvalue()
    (tmp_path / "a.png").write_bytes(plain[:-12] + chunk(b"eXIf", exif) + plain[-12:])
    upright = {  # EXIF 2.32, table 6
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.T,
        6: pixels[::-1].T,
        7: pixels[::-1, ::-1].T,
        8: pixels[:, ::-1].T,
    }[orientation]
    assert read_header(tmp_path / "a.png").size == upright.shape
    assert np.array_equal(open_source(tmp_path).read(0)[0], upright)


@pytest.mark.parametrize("name", ["x.csv", "x.npy", "x.wav", "x.zip"])
def test_a_pipe_in_the_place_of_the_data_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="neither a regular file nor a folder"):
        open_source(tmp_path / name)
