import numpy as np
import pytest
from PIL import Image

from iddpm.builders import build_augmentations
from iddpm.config import read_config
from iddpm.data.augment import Flip, random_crop
from iddpm.data.batches import Batches, held_out_batches
from iddpm.data.conditioning.paired import Paired
from iddpm.data.sources.open import open_source

NAMES = ("a/1", "a/2", "b/1")


def folder(path, suffix, names=NAMES, size=(6, 4), mode="L"):
    """Pictures that are all of their number."""
    for number, name in enumerate(names):
        file = path / f"{name}{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        color = number if mode == "L" else (number, 10, 20)
        Image.new(mode, size, color).save(file)
    return open_source(path, labels="none")


def array(path, values, **options):
    np.save(path, values)
    return open_source(path, **options)


def test_files_go_by_their_names_whatever_their_suffix_and_order(tmp_path):
    data = folder(tmp_path / "data", ".png")
    given = folder(tmp_path / "given", ".bmp", ("b/1", "z", "a/2", "a/1"), mode="RGB")
    pair = Paired(given, data)
    assert (len(pair), pair.shape, pair.labels) == (3, (3, 4, 6), None)
    assert [int(pair.read(k)[0, 0, 0]) for k in range(3)] == [3, 2, 0]
    assert pair.read_many(np.array([2, 0]))[:, 0, 0, 0].tolist() == [0, 3]
    assert [pair.key(k) for k in range(3)] == ["a/1.bmp", "a/2.bmp", "b/1.bmp"]


def test_rows_are_paired_by_number_and_windows_by_position(tmp_path):
    values = np.linspace(-1, 1, 96).reshape(6, 16)
    rows = Paired(array(tmp_path / "b.npy", -values), array(tmp_path / "a.npy", values))
    np.testing.assert_array_equal(rows.read(4)[0], -values[4].astype(np.float32))
    windows = Paired(
        array(tmp_path / "d.npy", -values, window=4), array(tmp_path / "c.npy", values, window=4)
    )
    np.testing.assert_array_equal(windows.read(5)[0], -values[1, 4:8].astype(np.float32))
    one = array(tmp_path / "scan.npy", values[:1], window=4)
    other = array(tmp_path / "mask.npy", -values[:1], window=4)
    np.testing.assert_array_equal(Paired(other, one).read(2)[0], -values[0, 8:12].astype("f4"))


@pytest.mark.parametrize(
    ("names", "size", "message"),
    [
        (("a/1", "a/2"), (6, 4), r"holds no item to pair with b/1\.png of data"),
        (NAMES, (6, 6), "has items of size 6 x 6 and data of 4 x 6"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path, names, size, message):
    data = folder(tmp_path / "data", ".png")
    with pytest.raises(ValueError, match=message):
        Paired(folder(tmp_path / "given", ".png", names, size), data)


def test_two_files_of_one_stem_are_not_guessed_between(tmp_path):
    data = folder(tmp_path / "data", ".png")
    folder(tmp_path / "given", ".bmp")
    given = folder(tmp_path / "given", ".jpg")
    with pytest.raises(ValueError, match=r"several items to pair with a/1\.png"):
        Paired(given, data)


def test_arrays_of_other_lengths_are_refused(tmp_path):
    values = np.linspace(-1, 1, 96).reshape(6, 16)
    data = array(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=r"b\.npy has 5 rows and a\.npy 6"):
        Paired(array(tmp_path / "b.npy", values[:5]), data)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_items_and_what_goes_with_them_are_changed_alike(tmp_path, dims):
    shape = (9, 7, 8)[:dims]
    values = np.random.default_rng(0).integers(0, 256, (10, 1, *shape), dtype=np.uint8)
    layout = ("NCL", "NCHW", "NCDHW")[dims - 1]
    data = array(tmp_path / "a.npy", values, layout=layout)
    data.given = Paired(array(tmp_path / "b.npy", 255 - values, layout=layout), data)
    options = {"batch_size": 6, "seed": 3, "augmentations": [random_crop, Flip()]}
    batches = Batches(data, **options)
    changed = 0
    for step in range(4):
        batch = batches[step]
        assert int((batch.x.int() + batch.given.int() - 255).abs().max()) <= 1  # rounded apart
        changed += not np.array_equal(batch.x, data.read_many(batch.items))
    assert changed == 4
    alone = array(tmp_path / "a.npy", values, layout=layout)
    assert np.array_equal(Batches(alone, **options)[2].x, batches[2].x)
    (batch,) = held_out_batches(data, [1, 2], batch_size=4)
    moved = batch.to("cpu")
    assert (moved.given_bits, float(moved.given.max()) <= 1) == (None, True)
    assert float((moved.given + moved.x).abs().max()) < 1e-6


def test_deeper_data_that_is_given_keeps_its_depth_when_it_is_cropped(tmp_path):
    """Gray of 16 bits that goes with pictures of 8."""
    data = array(tmp_path / "a.npy", np.zeros((4, 8, 8), np.uint8), layout="NHW")
    deep = np.full((4, 8, 8), 40_000, np.uint16)
    data.given = Paired(array(tmp_path / "b.npy", deep, layout="NHW"), data)
    crops = build_augmentations(read_config(None, ["data.random_crop=true"]))
    batch = Batches(data, batch_size=4, seed=0, augmentations=crops)[0]
    assert (batch.given.numpy() == 40_000).all()
