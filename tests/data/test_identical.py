"""Identical items are found, and lie on one side of the split."""

import io
import os

import numpy as np
import pytest
import yaml
from PIL import Image

from iddpm.builders import resolve
from iddpm.builders.run_data import open_split, open_to_train
from iddpm.config import read_config
from iddpm.data.identical import identical_items, joined
from iddpm.data.sources.open import open_source
from tests.data.sources.test_shards import array, shards
from tests.data.sources.test_tables import pa, parquet
from tests.data.sources.test_tables import write as write_arrow


def write(folder, values, suffix=".png"):
    """Write a picture for each value; equal values make identical files."""
    folder.mkdir(exist_ok=True)
    for number, value in enumerate(values):
        pixels = np.random.default_rng(value).integers(0, 256, (40, 40), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".bmp"])  # all BMP have one size
def test_identical_files_are_found_among_files_of_one_size(tmp_path, suffix):
    write(tmp_path, [0, 1, 2, 1, 3, 0, 1, 4], suffix)
    assert identical_items(open_source(tmp_path)) == [[0, 5], [1, 3, 6]]


def test_files_that_differ_anywhere_are_not_identical(tmp_path):
    header = b"P5 200 200 255\n"
    for number, place in enumerate((5_000, 15_000, 35_000)):
        pixels = bytearray(40_000)
        pixels[place] = 1
        (tmp_path / f"{number}.pgm").write_bytes(header + pixels)
    assert identical_items(open_source(tmp_path)) == []


def test_identical_rows_of_an_array_are_found(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), np.uint8)
    x[7] = x[29] = x[3]
    np.save(tmp_path / "a.npy", x)
    source = open_source(tmp_path / "a.npy")
    assert identical_items(source) == [[3, 7, 29]]
    assert identical_items(source, 1000) is None


def test_a_cache_changes_nothing(tmp_path):
    write(tmp_path / "in", [0, 1, 2, 1])
    settings = [f"data.path={tmp_path / 'in'}", "data.held_out=0.5"]
    plain = open_split(read_config(None, settings))
    cached = open_split(read_config(None, [*settings, f"data.cache={tmp_path / 'c'}"]))
    assert (plain.train == cached.train).all()
    assert identical_items(cached.source) == [[1, 3]]


def test_groups_that_share_an_item_become_one():
    groups = ["p1", "p1", "p2", "p2", "p3", "p4", "p5"]
    assert joined(groups, [[1, 2], [3, 4]]) == ["p1", "p1", "p1", "p1", "p1", "p4", "p5"]
    assert joined(["a", "b"], [[0, 1]]) == ["a", "b"]  # nothing would be left to hold out


def sides(split):
    mask = np.zeros(len(split.source), bool)
    mask[split.held_out] = True
    return mask


def test_identical_items_stay_on_one_side_and_are_reported(tmp_path):
    values = [n % 40 for n in range(80)]
    write(tmp_path, values)
    config = read_config(None, [f"data.path={tmp_path}", "data.held_out=0.3"])
    with pytest.warns(UserWarning, match="40 of the 80 items .* 040.png, which is identical to"):
        mask = sides(open_split(config))
    assert (mask[:40] == mask[40:]).all()
    assert 4 < mask[:40].sum() < 36


def test_without_twins_the_split_is_as_it_was(tmp_path):
    write(tmp_path, range(60))
    path = f"data.path={tmp_path}"
    new = sides(open_split(read_config(None, [path, "data.held_out=0.3"])))
    old = sides(open_split(read_config(None, [path, "data.held_out=0.3", "data.identical=apart"])))
    assert (new == old).all()


def test_a_run_keeps_the_rule_that_it_was_split_by(tmp_path):
    write(tmp_path, [n % 40 for n in range(80)])
    settings = [f"data.path={tmp_path}", "data.held_out=0.3"]
    with pytest.warns(UserWarning, match="repeat another"):
        config, split = open_to_train(read_config(None, settings))
    assert config.data.identical == "together"
    again, same = open_to_train(config)
    assert again == config
    assert (sides(same) == sides(split)).all()

    values = yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))
    del values["data"]["identical"]  # as an earlier version wrote it
    old, before = open_to_train(read_config(None, base=values))
    assert old.data.identical is None
    apart = open_split(read_config(None, [*settings, "data.identical=apart"]))
    assert (sides(before) == sides(apart)).all()
    assert (sides(before) != sides(split)).any()
    assert resolve(old, before.source, len(before.train)).data.identical is None


def test_sounds_of_one_content_keep_their_windows_together(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for number in range(12):
        tone = np.sin(np.arange(400) * (1 + number % 6) / 20) * 0.5
        soundfile.write(tmp_path / f"{number:02}.wav", tone, 8000, subtype="PCM_16")
    assert len({os.path.getsize(path) for path in tmp_path.iterdir()}) == 1
    settings = [f"data.path={tmp_path}", "data.window=100", "data.held_out=0.4"]
    with pytest.warns(UserWarning, match="repeat another"):
        mask = sides(open_split(read_config(None, settings)))
    assert (mask[:24] == mask[24:]).all()
    assert mask.any()


@pytest.mark.parametrize("kind", ["tar", "npy", "parquet", "arrow"])
def test_twins_in_shards_and_tables_are_found_and_kept_together(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (40, 6, 4), np.uint8)

    def png(number):
        stream = io.BytesIO()
        Image.fromarray(noise[number % 40]).save(stream, "png")
        return stream.getvalue()

    if kind in ("tar", "npy"):
        path = shards(
            tmp_path / "set", count=4, each=20, suffix="png" if kind == "tar" else "npy",
            item=png if kind == "tar" else lambda number: array(noise[number % 40][None]),
        )  # fmt: skip
    else:
        path = tmp_path / f"set.{kind}"
        table = pa.table({"image": [{"bytes": png(k), "path": None} for k in range(80)]})
        parquet.write_table(table, path) if kind == "parquet" else write_arrow(path, table)
    settings = [f"data.path={path}", "data.held_out=0.3"]
    settings += ["data.layout=NCHW"] if kind == "npy" else []
    with pytest.warns(UserWarning, match="40 of the 80 items of set repeat another"):
        split = open_split(read_config(None, settings))
    assert identical_items(split.source) == [[k, k + 40] for k in range(40)]
    assert identical_items(split.source, 1000) is None
    mask = sides(split)
    assert (mask[:40] == mask[40:]).all()


def test_windows_of_identical_rows_are_kept_together(tmp_path):
    x = np.random.default_rng(0).uniform(-1, 1, (40, 64)).astype(np.float32)
    np.save(tmp_path / "a.npy", np.concatenate([x, x]))
    settings = [f"data.path={tmp_path / 'a.npy'}", "data.held_out=0.3", "data.window=16"]
    with pytest.warns(UserWarning, match="repeat another"):
        mask = sides(open_split(read_config(None, settings))).reshape(80, 4)
    assert (mask == mask[:, :1]).all()
    assert (mask[:40] == mask[40:]).all()
