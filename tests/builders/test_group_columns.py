"""data.group by a column: of the table of labels or conditions, of an array file, of a table."""

import numpy as np
import pytest
from PIL import Image

from iddpm.builders.run_data import open_conditioned
from iddpm.config import read_config
from tests.data.sources.test_tables import parquet, pictures

COUNT = 60
PATIENTS = [f"p{(k * 7) % 12:02}" for k in range(COUNT)]


def split_of(*settings):
    return open_conditioned(read_config(None, ["data.held_out=0.4", *settings]))


def folder(path):
    path.mkdir()
    rng = np.random.default_rng(0)
    for k in range(COUNT):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(path / f"{k:02}.png")
    return path


def hold_together(split):
    train, held_out = ({PATIENTS[k] for k in side.tolist()} for side in split[1:])
    assert train
    assert held_out
    return not train & held_out


@pytest.mark.parametrize("setting", ["labels", "conditions"])
def test_by_a_column_of_a_table(tmp_path, setting):
    data = folder(tmp_path / "in")
    rows = [f"{k:02}.png,{'ab'[k % 2]},{k}.5,{PATIENTS[k]}" for k in range(COUNT)]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,age,patient", *rows]))
    settings = [f"data.path={data}", f"data.{setting}={tmp_path / 't.csv'}"]
    config, split = split_of(*settings, "data.group=patient")
    assert hold_together(split)
    assert not hold_together(split_of(*settings)[1]), "or the table would not be needed"
    if setting == "conditions":
        assert list(config.model.conditions) == ["label", "age"]
    (tmp_path / "t.csv").write_text("\n".join(["file,label,age,patient", "00.png,a,1,", *rows[1:]]))
    with pytest.raises(ValueError, match=r"data\.group=patient .*t\.csv has none for 00\.png"):
        split_of(*settings, "data.group=patient")


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_by_an_array_or_a_column_beside_the_items(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npz":
        x = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)
        np.savez(path, images=x, patient=PATIENTS)
    else:
        table = pictures(0, COUNT).append_column("patient", [PATIENTS])
        parquet.write_table(table, path)
    assert hold_together(split_of(f"data.path={path}", "data.group=patient")[1])
    assert not hold_together(split_of(f"data.path={path}")[1])


def test_a_missing_column_is_reported(tmp_path):
    with pytest.raises(ValueError, match=r"data.group=patient does not match .* a column"):
        split_of(f"data.path={folder(tmp_path / 'in')}", "data.group=patient")
