import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources import pictures
from iddpm.data.sources.images import ImageFolder
from iddpm.data.sources.open import open_source
from iddpm.data.sources.picture import read_header


def save(path, *, size=(6, 4), color=0, mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path)
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-30])


def test_pictures_come_sorted_whatever_their_depth(tmp_path):
    for value, name in enumerate(["b.png", "a/z.PNG", "a/y/x.bmp", "c.pgm"]):
        save(tmp_path / name, color=value)
    save(tmp_path / ".hidden/d.png")
    save(tmp_path / "__MACOSX/e.png")
    (tmp_path / "._b.png").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("no picture")
    source = ImageFolder(tmp_path)
    keys = [source.key(i) for i in range(len(source))]
    assert keys == ["a/y/x.bmp", "a/z.PNG", "b.png", "c.pgm"]
    assert [int(source.read(i)[0, 0, 0]) for i in range(4)] == [2, 1, 0, 3]
    assert (source.shape, source.bits, source.labels) == ((1, 4, 6), 8, None)
    assert source.name == tmp_path.name


def test_read_many_is_read(tmp_path):
    for value in range(5):
        save(tmp_path / f"{value}.png", color=value)
    source = ImageFolder(tmp_path)
    many = source.read_many([3, 0, 3])
    assert many.shape == (3, 1, 4, 6)
    assert many[:, 0, 0, 0].tolist() == [3, 0, 3]


def test_links_to_folders_are_followed_once(tmp_path):
    save(tmp_path / "real/a.png")
    (tmp_path / "set").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "set/link")
    os.symlink(tmp_path / "set", tmp_path / "real/loop")
    source = ImageFolder(tmp_path / "set")
    assert [source.key(i) for i in range(len(source))] == ["link/a.png"]


@pytest.mark.parametrize(("image_size", "shape"), [(3, (1, 3, 3)), ((2, 5), (1, 2, 5))])
def test_mixed_sizes_are_resized(image_size, shape, tmp_path):
    save(tmp_path / "a.png", size=(6, 4), color=9)
    save(tmp_path / "b.png", size=(50, 90), color=9)
    source = ImageFolder(tmp_path, image_size=image_size)
    assert source.shape == shape
    assert (source.read_many([0, 1]) == np.full((2, *shape), 9)).all()


def test_mixed_sizes_without_a_target_are_listed(tmp_path):
    save(tmp_path / "a.png", size=(6, 4))
    save(tmp_path / "b.png", size=(4, 6))
    save(tmp_path / "c.png", size=(4, 6))
    with pytest.raises(ValueError, match=r"6x4 \(2\), 4x6 \(1\).*data\.image_size"):
        ImageFolder(tmp_path)


@pytest.mark.parametrize("image_size", [0, -3, (4, 0), (1, 2, 3)])
def test_an_impossible_size_is_refused(image_size, tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="image_size is"):
        ImageFolder(tmp_path, image_size=image_size)


def test_an_empty_folder_is_named_with_the_suffixes(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"{tmp_path} has no picture: it holds no files; .*\.png"
    ):
        ImageFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        ImageFolder(tmp_path / "absent")


@pytest.mark.parametrize(
    ("modes", "channels"),
    [
        ([("L", 1), ("L", 2)], 1),
        ([("L", 1), ("RGB", 2)], 3),
        ([("RGBA", (1, 2, 3, 4)), ("RGBA", (1, 2, 3, 5))], 4),
        ([("RGBA", (1, 2, 3, 4)), ("RGBA", (1, 2, 3, 255))], 3),  # not all really transparent
        ([("RGBA", (1, 2, 3, 4)), ("RGB", 2)], 3),
        ([("LA", (1, 255)), ("L", 2)], 1),
        ([("LA", (1, 4)), ("L", 2)], 1),
    ],
)
def test_channels_follow_the_pictures(modes, channels, tmp_path):
    for index, (mode, color) in enumerate(modes):
        save(tmp_path / f"{index}.png", mode=mode, color=color)
    source = ImageFolder(tmp_path)
    assert source.shape[0] == channels
    assert source.read(0).shape[0] == channels


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_may_be_stated(channels, tmp_path):
    save(tmp_path / "a.png", mode="RGB", color=(9, 9, 9))
    assert ImageFolder(tmp_path, channels=channels).read(0).shape == (channels, 4, 6)


def test_two_channels_are_refused(tmp_path):
    save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="channels is 2"):
        ImageFolder(tmp_path, channels=2)


def test_color_met_late_in_a_gray_set_is_not_dropped_silently(tmp_path, monkeypatch):
    for index in range(5):
        save(tmp_path / f"{index}.bmp")
    save(tmp_path / "3.bmp", mode="RGB", color=(9, 0, 0))
    monkeypatch.setattr(pictures, "_PROBED", 2)
    source = ImageFolder(tmp_path)
    with pytest.raises(ValueError, match=r"3\.bmp is in color.*data\.channels"):
        source.read(3)
    assert ImageFolder(tmp_path, channels=1).read(3).shape == (1, 4, 6)


def test_16_bits_are_kept_when_all_have_them(tmp_path):
    levels = np.arange(24, dtype=np.uint16).reshape(4, 6) * 2731
    Image.fromarray(levels).save(tmp_path / "a.png")
    Image.fromarray(levels[::-1].copy()).save(tmp_path / "b.tif")
    source = ImageFolder(tmp_path)
    assert (source.bits, source.shape) == (16, (1, 4, 6))
    assert np.array_equal(source.read_many([0, 1])[:, 0], [levels, levels[::-1]])
    with pytest.raises(ValueError, match="16-bit gray"):
        ImageFolder(tmp_path, channels=3)


@pytest.mark.parametrize(("place", "when"), [(79, "opening"), (40, "reading")])
def test_mixed_depths_are_refused(place, when, tmp_path):
    for index in range(80):  # more than are probed
        save(tmp_path / f"{index:02}.png")
    Image.new("I;16", (6, 4)).save(tmp_path / f"{place}.png")
    if when == "opening":
        with pytest.raises(ValueError, match=r"79\.png is 16-bit gray but"):
            ImageFolder(tmp_path, image_size=4)
    else:
        source = ImageFolder(tmp_path, image_size=4)
        with pytest.raises(ValueError, match=r"40\.png has 16 bits .* others have 8"):
            source.read(40)
    with pytest.raises(ValueError, match="is 16-bit gray but"):  # sizes have to be alike
        ImageFolder(tmp_path)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_with_a_size_few_headers_are_read(suffix, tmp_path, monkeypatch):
    for index in range(100):
        save(tmp_path / f"{index:02}.{suffix}")
    read = []
    monkeypatch.setattr(pictures, "read_header", lambda *a: read.append(a) or read_header(*a))
    ImageFolder(tmp_path, image_size=4)
    assert len(read) == 32
    ImageFolder(tmp_path)
    assert len(read) == 132


def deep_color(path):
    """A PNG of 16-bit color, which Pillow cannot write."""
    import zlib

    def chunk(kind, data):
        check = zlib.crc32(kind + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + kind + data + check

    header = (6).to_bytes(4, "big") + (4).to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    pixels = zlib.compress((b"\0" + bytes(6 * 3 * 2)) * 4)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def test_what_is_whole_and_not_read_is_not_called_damaged(tmp_path, monkeypatch):
    for index in range(3):
        save(tmp_path / f"{index}.png")
    deep_color(tmp_path / "deep.png")
    frames = [Image.new("RGB", (6, 4), (n, 0, 0)) for n in range(2)]
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    save(tmp_path / "huge.png", size=(60, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2000)
    with pytest.raises(ValueError, match=r"16-bit color.*data\.corrupt=skip") as caught:
        ImageFolder(tmp_path, image_size=4)
    assert "damaged" not in str(caught.value)
    said = r"skipped 3 intact pictures of .* of unsupported kinds, first: .*deep\.png"
    with pytest.warns(UserWarning, match=said) as warned:
        source = ImageFolder(tmp_path, image_size=4, corrupt="skip")
    assert source.skipped == ["deep.png", "huge.png", "moving.png"]
    assert len(source) == 3
    assert "damaged" not in str([w.message for w in warned if w.category is UserWarning])
    (tmp_path / "cut.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"skipped 1 damaged .*cut\.png; and 3 intact pictures of"):
        ImageFolder(tmp_path, image_size=4, corrupt="skip")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif"])
def test_large_pictures_have_a_setting(suffix, tmp_path, monkeypatch):
    monkeypatch.setenv("IDDPM_MAX_PIXELS", "")  # what it was is put back
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for size in ((40, 40), (60, 50)):  # Pillow warns of the first and refuses the second
        save(tmp_path / f"{size[0]}/a.{suffix}", size=size)
        wanted = size[0] * size[1]
        folder = tmp_path / str(size[0])
        with pytest.raises(
            ValueError, match=f"more than the limit of 1000.*-s data.max_pixels={wanted}\\b"
        ):
            open_source(folder, image_size=4)
        assert open_source(folder, image_size=4, max_pixels=wanted).read(0).shape[-2:] == (4, 4)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)


def test_processes_that_are_spawned_know_of_large_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    monkeypatch.setenv("IDDPM_MAX_PIXELS", "")
    save(tmp_path / "a.png", size=(40, 40))
    source = open_source(tmp_path, max_pixels=10**8)
    program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).read(0).shape)"
    (tmp_path / "source").write_bytes(pickle.dumps(source))
    command = [sys.executable, "-W", "error", "-c", "from PIL import Image\n"
               "Image.MAX_IMAGE_PIXELS = 10\n" + program]  # fmt: skip
    with open(tmp_path / "source") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, check=False)
    assert done.stdout == "(1, 40, 40)\n", done.stderr


def test_a_depth_that_hides_behind_a_suffix_is_refused_at_reading(tmp_path, monkeypatch):
    for index in range(3):
        save(tmp_path / f"{index}.jpg")
    Image.new("I;16", (6, 4)).save(tmp_path / "1.jpg", format="PNG")
    monkeypatch.setattr(pictures, "_PROBED", 2)
    source = ImageFolder(tmp_path, image_size=4)
    with pytest.raises(ValueError, match=r"1\.jpg has 16 bits .* others have 8"):
        source.read(1)


@pytest.mark.parametrize(
    ("rule", "labels", "names"),
    [
        ("auto", [0, 0, 1], ("0", "1")),
        ("folder", [0, 0, 1], ("0", "1")),
        ("prefix", [1, 0, 1], ("cat", "dog")),
        ("t.csv", [0, 1, 0], ("a", "b")),
        ("none", None, ()),
    ],
)
def test_labels_by_each_rule(rule, labels, names, tmp_path):
    for name in ("0/dog_1.png", "0/cat_2.png", "1/dog_3.png"):
        save(tmp_path / name)
    (tmp_path / "t.csv").write_text("file,label\ncat_2.png,a\ndog_1.png,b\n1/dog_3.png,a\n")
    source = ImageFolder(tmp_path, labels=rule)
    by_key = ["0/cat_2.png", "0/dog_1.png", "1/dog_3.png"]
    assert [source.key(i) for i in range(3)] == by_key
    expected = {"prefix": [0, 1, 1], "t.csv": [0, 1, 0]}.get(rule, labels)
    assert (source.labels is None) == (labels is None)
    assert labels is None or source.labels.tolist() == expected
    assert source.class_names == names


def test_a_damaged_picture_is_named_when_it_is_read(tmp_path):
    save(tmp_path / "a.png", size=(50, 50))
    truncate(save(tmp_path / "b.png", size=(50, 50)))
    source = ImageFolder(tmp_path)
    source.read(0)
    with pytest.raises(ValueError, match=r"b\.png is damaged .* -s data\.corrupt=skip"):
        source.read(1)


def test_what_is_no_picture_is_named_at_opening(tmp_path):
    save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"b\.png is empty; .*data\.corrupt=skip"):
        ImageFolder(tmp_path)


def test_damaged_pictures_are_skipped_and_named(tmp_path):
    for name in ("a.png", "c.png", "e.png"):
        save(tmp_path / name, size=(50, 50))
    truncate(save(tmp_path / "b.png", size=(50, 50)))
    (tmp_path / "d.png").write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"skipped 2 damaged .*b\.png, d\.png"):
        source = ImageFolder(tmp_path, corrupt="skip")
    assert source.skipped == ["b.png", "d.png"]
    assert [source.key(i) for i in range(len(source))] == ["a.png", "c.png", "e.png"]
    source.read_many([0, 1, 2])


def test_skipping_everything_is_an_error(tmp_path):
    (tmp_path / "d.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"no picture is left without 1 damaged .*d\.png"):
        ImageFolder(tmp_path, corrupt="skip")
    with pytest.raises(ValueError, match="'ignore'"):
        ImageFolder(tmp_path, corrupt="ignore")


def test_a_small_set_is_decoded_once(tmp_path):
    path = save(tmp_path / "a.png", color=7)
    source = ImageFolder(tmp_path)
    first = source.read(0)
    path.unlink()
    first[:] = 0  # what a reader does to its item must not reach the cache
    assert (source.read(0) == 7).all()
    with pytest.raises(FileNotFoundError):  # the cache does not travel
        pickle.loads(pickle.dumps(source)).read(0)


def test_a_large_set_is_decoded_each_time(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", color=7)
    monkeypatch.setattr(pictures, "CACHE_BYTES", 6 * 4 - 1)
    source = ImageFolder(tmp_path)
    source.read(0)
    save(path, color=8)
    assert (source.read(0) == 8).all()
