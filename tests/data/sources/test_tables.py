import io
import json
import os
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from iddpm.data.sources.array_files import ArrayFiles
from iddpm.data.sources.open import open_source
from iddpm.data.sources.pictures import Pictures

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

CLASS = {"_type": "ClassLabel", "names": ["ant", "bee", "cat"]}
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(value):
    file = io.BytesIO()
    Image.new("L", (6, 4), value).save(file, "png")
    return file.getvalue()


def pictures(first, count, **more):
    """A table whose row n holds a picture filled with n, and its class n % 3."""
    rows = range(first, first + count)
    image = pa.array([{"bytes": png(n), "path": None} for n in rows], PICTURE)
    return pa.table({"image": image, "label": [n % 3 for n in rows], **more})


def write(path, table, rows=3):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)


def saved(folder, tables, features):
    """Write what ``datasets.Dataset.save_to_disk`` writes."""
    names = [f"data-{n:05}-of-{len(tables):05}.arrow" for n in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        write(folder / name, table)
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    return folder


@pytest.fixture
def dataset(tmp_path):
    features = {"image": {"_type": "Image"}, "label": CLASS}
    return saved(tmp_path / "set", [pictures(0, 7), pictures(7, 5)], features)


def test_any_row_of_a_saved_dataset_is_read(dataset):
    source = open_source(dataset)
    assert isinstance(source, Pictures)
    assert (len(source), source.shape, source.bits, source.name) == (12, (1, 4, 6), 8, "set")
    every = range(12)
    assert source.read_many(every)[:, 0, 0, 0].tolist() == list(every)
    assert source.labels.tolist() == [n % 3 for n in every]
    assert source.class_names == ("ant", "bee", "cat")
    assert source.files.title(8).endswith("data-00001-of-00002.arrow: row 1 of image")
    assert len(list(source.stamps())) == 2
    copy = pickle.loads(pickle.dumps(source))
    assert copy.read(11).max() == 11
    assert open_source(dataset, labels="none").labels is None


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_a_folder_a_file_and_a_pattern_of_plain_tables(suffix, tmp_path, capsys):
    for n in range(3):
        path = tmp_path / f"train-{n:05}-of-00003.{suffix}"
        table = pictures(4 * n, 4)
        if suffix == "arrow":
            write(path, table)
        else:
            parquet.write_table(table, path)
    for where, count in [
        ("", 12),
        ("train-00000-of-00003", 4),
        ("train-{00000..00001}-of-00003", 8),
    ]:
        path = tmp_path / f"{where}.{suffix}" if where else tmp_path
        for _ in range(2):
            source = open_source(path)
            assert source.read_many(range(count))[:, 0, 0, 0].tolist() == list(range(count))
            assert source.class_names == ("0", "1", "2")
    assert capsys.readouterr().err.count("once into") == (3 if suffix == "parquet" else 0)


def test_arrays_are_nested_lists(tmp_path):
    values = np.arange(5 * 3 * 4 * 7, dtype=np.uint16).reshape(5, 3, 4, 7)
    table = pa.table({"x": pa.array(values.tolist(), pa.list_(pa.list_(pa.list_(pa.uint16()))))})
    write(tmp_path / "a.arrow", table)
    source = open_source(tmp_path / "a.arrow", layout="NCHW")
    assert isinstance(source, ArrayFiles)
    assert (source.shape, source.bits, source.labels) == ((3, 4, 7), 16, None)
    assert np.array_equal(source.read_many(range(5)), values)


def test_signals_of_two_lengths_are_refused(tmp_path):
    column = pa.array([[[0.0, 1.0]], [[0.0, 1.0, 0.5]], [[0.0], [1.0, 2.0]]])
    write(tmp_path / "a.arrow", pa.table({"x": column}))
    source = open_source(tmp_path / "a.arrow")
    with pytest.raises(ValueError, match=r"row 1 of x is float64 of shape \(1, 3\) while"):
        source.read(1)
    with pytest.raises(ValueError, match="row 2 of x is not an array: its lists differ"):
        source.read(2)


def test_ambiguous_columns_raise_an_error(tmp_path):
    two = pictures(0, 3).append_column("mask", pictures(9, 3).column("image"))
    write(tmp_path / "a.arrow", two)
    with pytest.raises(ValueError, match=r"\(image, mask\); select one with -s data\.column=image"):
        open_source(tmp_path / "a.arrow")
    assert open_source(tmp_path / "a.arrow", column="mask").read(0).max() == 9
    with pytest.raises(ValueError, match="and label holds pictures or arrays; use image, mask"):
        open_source(tmp_path / "a.arrow", column="label")
    with pytest.raises(ValueError, match=r"'breed' does not go .* column: image, label, mask"):
        open_source(tmp_path / "a.arrow", column="mask", labels="breed")
    write(tmp_path / "b.arrow", pa.table({"n": [1, 2]}))
    with pytest.raises(ValueError, match="the columns n, and none of them holds"):
        open_source(tmp_path / "b.arrow")
    both = {"image": {"_type": "Image"}, "label": CLASS, "kind": CLASS}
    saved(tmp_path / "c", [pictures(0, 3, kind=[0, 1, 2])], both)
    with pytest.raises(ValueError, match=r"\(label, kind\); select one with -s data\.labels=label"):
        open_source(tmp_path / "c")
    assert open_source(tmp_path / "c", labels="kind").labels.tolist() == [0, 1, 2]


def test_rows_without_a_class_or_a_picture_are_named(tmp_path):
    features = {"image": {"_type": "Image"}, "label": CLASS}
    table = pictures(0, 3).set_column(1, "label", pa.array([0, -2, 2]))
    with pytest.raises(
        ValueError, match=r"row 1 of image has the label -2, which is none of the 3"
    ):
        open_source(saved(tmp_path / "a", [table], features))
    table = pictures(0, 3).set_column(1, "label", pa.array([0.5, 1, 2]))
    with pytest.raises(ValueError, match=r"row 0 of image has the label 0\.5; classes are"):
        open_source(saved(tmp_path / "b", [table], {}))
    image = pa.array([{"bytes": png(1)}, None, {"path": "/etc/x.png"}], PICTURE)
    write(tmp_path / "c.arrow", pa.table({"image": image}))
    with pytest.raises(ValueError, match="row 1 of image holds no picture; remove it"):
        open_source(tmp_path / "c.arrow")
    with pytest.warns(UserWarning, match="skipped 2 damaged"):
        assert len(open_source(tmp_path / "c.arrow", corrupt="skip")) == 1


def test_splits_are_not_mixed(dataset, tmp_path):
    both = tmp_path / "both"
    both.mkdir()
    (both / "dataset_dict.json").write_text("{}")
    os.rename(dataset, both / "train")
    with pytest.raises(ValueError, match=r"holds the splits train: give one, .*/both/train"):
        open_source(both)
    for split in ("train", "test"):
        write(tmp_path / f"p/{split}-00000-of-00001.arrow", pictures(0, 2))
    with pytest.raises(
        ValueError, match=r"several splits \(test, train\).*/p/test-00000-of-00001\.arrow$"
    ):
        open_source(tmp_path / "p")


def test_damaged_and_missing_files_are_named(dataset, tmp_path):
    second = dataset / "data-00001-of-00002.arrow"
    second.write_bytes(second.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"data-00001-of-00002\.arrow is no complete Arrow file"):
        open_source(dataset)
    write(second, pa.table({"other": [1]}))
    with pytest.raises(ValueError, match="give files of one table"):
        open_source(dataset)
    second.unlink()
    with pytest.raises(FileNotFoundError, match=r"data-00001-of-00002\.arrow, which"):
        open_source(dataset)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"a\.parquet is no complete Parquet file"):
        open_source(tmp_path / "a.parquet")


def test_without_pyarrow_it_is_said_how_to_install_it(dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'iddpm\[datasets\]'"):
        open_source(dataset)
