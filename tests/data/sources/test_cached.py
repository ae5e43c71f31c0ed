import io
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from iddpm.builders import open_data
from iddpm.config import validate
from iddpm.data.sources import cached as module
from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.cached import CachedSource, cached
from iddpm.data.sources.open import open_source
from tests.conftest import images


def pictures(folder, count=75, channels=3):
    """Pictures in folders of their class, 16 x 16, without loss."""
    for n, pixels in enumerate(images(count, size=16, channels=channels)):
        path = folder / "abc"[n % 3] / f"{n:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.squeeze()).save(path)
    return folder


def quiet():
    return Console(file=io.StringIO(), width=1000)


def test_items_keys_and_labels_are_those_of_the_source(tmp_path):
    source = open_source(pictures(tmp_path / "set"), image_size=(12, 10))
    console = quiet()
    again = cached(source, tmp_path / "cache", "set", console=console)
    assert isinstance(again, CachedSource)
    assert f"decoding 75 items of set once into {tmp_path}/cache" in console.file.getvalue()
    every = range(len(source))
    assert np.array_equal(again.read_many(every), source.read_many(every))
    assert [again.key(n) for n in every] == [source.key(n) for n in every]
    assert np.array_equal(again.labels, source.labels)
    assert (again.class_names, again.shape, again.bits, again.name) == (
        source.class_names,
        source.shape,
        source.bits,
        source.name,
    )
    assert list(again.stamps()) == list(source.stamps())
    copy = pickle.loads(pickle.dumps(again))
    assert isinstance(copy._array, np.memmap)
    assert np.array_equal(copy.read(74), source.read(74))


def test_the_cache_is_used_until_the_data_changes(tmp_path, monkeypatch):
    folder = pictures(tmp_path / "set")

    def get(**options):
        console = quiet()
        items = cached(open_source(folder, **options), tmp_path / "cache", console=console)
        return items, console.file.getvalue()

    get()
    with monkeypatch.context() as patch:
        patch.setattr(module, "_write", lambda *a, **k: pytest.fail("written again"))
        assert get()[1] == ""
    _, said = get(image_size=8)  # another size lies beside it
    assert "again" not in said
    assert len([d for d in (tmp_path / "cache").iterdir() if d.is_dir()]) == 2

    Image.new("RGB", (16, 16), (1, 2, 3)).save(folder / "a/000.png")
    items, said = get()
    assert "was made from other data (files); making it again" in said
    assert (items.read(0)[:, 0, 0] == [1, 2, 3]).all()
    facts = (folder / "a/000.png").stat()
    os.utime(folder / "a/000.png", ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    assert "(files); making it again" in get()[1]
    (folder / "a/000.png").rename(folder / "a/zzz.png")
    assert "(keys, files); making it again" in get()[1]
    (folder / "a/zzz.png").unlink()
    items, said = get()
    assert "(items, keys, files); making it again" in said
    assert len(items) == 74


def test_16_bits_and_floats_are_kept(tmp_path):
    levels = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    Image.fromarray(levels).save(tmp_path / "a.png")
    items = cached(open_source(tmp_path, image_size=4), tmp_path / "cache", console=quiet())
    assert (items.bits, items.read(0).dtype) == (16, np.uint16)
    assert np.array_equal(items.read(0), open_source(tmp_path, image_size=4).read(0))


def test_an_array_needs_no_cache_unless_it_is_resized(tmp_path):
    array = images(9, size=8)
    source = ArraySource(array, name="a")
    assert cached(source, tmp_path / "cache") is source
    smaller = ArraySource(array, name="a", image_size=4)
    again = cached(smaller, tmp_path / "cache", console=quiet())
    assert np.array_equal(again.read_many(range(9)), smaller.read_many(range(9)))


def test_a_damaged_picture_leaves_no_cache(tmp_path):
    folder = pictures(tmp_path / "set", count=40)
    (folder / "c/038.png").write_bytes((folder / "c/038.png").read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"038\.png is damaged"):
        cached(open_source(folder), tmp_path / "cache", console=quiet())
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []


def test_too_little_room_is_said_before_anything_is_decoded(tmp_path, monkeypatch):
    source = open_source(pictures(tmp_path / "set", count=3))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    with pytest.raises(OSError, match=r"takes 0\.0 GB and .*/cache has 0\.0 GB left.*data\.cache"):
        cached(source, tmp_path / "cache", console=quiet())


def test_settings_choose_the_cache(tmp_path, monkeypatch, capsys):
    folder = pictures(tmp_path / "set", count=6)
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "user"))

    def opened(cache):
        return open_data(validate({"data": {"path": str(folder), "cache": cache}}))

    assert not isinstance(opened("none"), CachedSource)
    assert isinstance(opened("auto"), CachedSource)
    assert list((tmp_path / "user/items").glob("set-*/items.npy"))
    assert isinstance(opened(str(tmp_path / "mine")), CachedSource)
    assert list((tmp_path / "mine").glob("set-*/items.npy"))
    assert capsys.readouterr().out == ""
