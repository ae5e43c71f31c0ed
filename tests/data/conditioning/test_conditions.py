import math

import h5py
import numpy as np
import pytest
from PIL import Image

from iddpm.data.conditioning.conditions import Condition, encode, read_columns
from iddpm.data.sources.open import open_source

AGE = Condition("age", None, 20, 60)
ANGLE = Condition("angle", period=360)
SEX = Condition("sex", ("f", "m"))


@pytest.fixture
def folder(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/2.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / "pictures" / name)
    return tmp_path / "pictures"


def columns(text, folder, wanted=None):
    (folder / "t.csv").write_text(text, encoding="utf-8")
    return read_columns("t.csv", wanted, folder, open_source(folder))


@pytest.mark.parametrize(
    ("condition", "cell", "encoded"),
    [
        (AGE, "20", -1),
        (AGE, "50.0", 0.5),
        (AGE, "80", 2),
        (ANGLE, "90", 0.25),
        (ANGLE, "-90", 0.75),
        (ANGLE, "360", 0),
        (SEX, "m", 1),
    ],
)
def test_cells_become_what_the_network_sees_and_back(condition, cell, encoded):
    assert condition.encode(cell) == pytest.approx(encoded, abs=1e-15)
    again = condition.encode(condition.decode(condition.encode(cell)))
    assert again == pytest.approx(encoded, abs=1e-9)


@pytest.mark.parametrize("condition", [AGE, ANGLE, SEX])
def test_an_empty_cell_is_not_known(condition):
    assert all(math.isnan(condition.encode(cell)) for cell in ("", "nan", "NaN"))
    assert condition.decode(math.nan) == ""


@pytest.mark.parametrize(
    ("condition", "cell", "message"),
    [
        (AGE, "old", "age=old is not a number"),
        (AGE, "inf", "age=inf is not a number"),
        (SEX, "x", "sex=x is none of its 2 words: f, m"),
    ],
)
def test_an_unknown_cell_is_named(condition, cell, message):
    with pytest.raises(ValueError, match=message):
        condition.encode(cell)


def test_a_table_goes_by_the_names_of_the_items(folder):
    text = "\ufefffile,age,sex\nb\\2.png,30,m\n1.png, ,f\na/2.png,25.5,\n\nother.png,1,1\n"
    assert columns(text, folder) == {"age": ["", "25.5", "30"], "sex": ["f", "", "m"]}
    assert columns(text, folder, ["sex"]) == {"sex": ["f", "", "m"]}
    assert columns(text.replace(",", "\t"), folder)["age"] == ["", "25.5", "30"]
    assert columns(text.replace(",", ";"), folder)["sex"] == ["f", "", "m"]
    source = open_source(folder)
    encoded = encode([SEX, AGE], columns(text, folder), source, "t.csv")
    np.testing.assert_array_equal(
        encoded, np.array([[0, np.nan], [np.nan, -0.725], [1, -0.5]], np.float32)
    )
    with pytest.raises(ValueError, match=r"t\.csv, a/1\.png: sex=f is none of its 1 words"):
        encode([Condition("sex", ("m",))], columns(text, folder), source, "t.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,age\na/1.png,1\nb/2.png,1\n", r"has no row for a/2\.png; add the row a/2\.png,$"),
        ("file,age\n1.png,1\n2.png,1\n", r"names 2\.png, but 2 items have that name"),
        ("file\n1.png\n", "its first line must name the columns"),
        ("", "its first line must name the columns"),
        ("file,age,age\n", "its first line must name the columns"),
        ("file,age\n1.png\n", "line 2 has 1 cells and the first row 2"),
        ("file,age\n,3\n", "line 2: needs a name and 1 cells"),
        ("file,age\n1.png,3\n1.png,4\n", r"two different rows for 1\.png"),
        ('file,age\n1.png,"3\n', "unmatched quotes"),
    ],
)
def test_a_table_that_cannot_serve_says_why(text, message, folder):
    with pytest.raises(ValueError, match=message):
        columns(text, folder)


def test_columns_that_are_not_there_are_named(folder):
    with pytest.raises(ValueError, match="has no column sex; it has age"):
        columns("file,age\n1.png,1\n", folder, ["sex"])
    with pytest.raises(FileNotFoundError, match=r"table of conditions nowhere\.csv"):
        read_columns("nowhere.csv", None, folder, open_source(folder))


def test_windows_have_the_conditions_of_their_recording(tmp_path):
    np.save(tmp_path / "signals.npy", np.random.default_rng(0).uniform(-1, 1, (3, 8)))
    (tmp_path / "t.csv").write_text("row,age\n0,5\n1,6\n2,7\n")
    source = open_source(tmp_path / "signals.npy", window=4)
    found = read_columns("t.csv", None, tmp_path / "signals.npy", source)
    assert found == {"age": ["5", "5", "6", "6", "7", "7"]}


@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_members_of_an_array_file(suffix, tmp_path):
    path = tmp_path / f"scans.{suffix}"
    members = {
        "images": np.zeros((3, 8, 8), np.uint8),
        "age": np.array([1.5, np.nan, 3]),
        "conditions/side": np.array([1, 2, 2]),
        "table": np.zeros((3, 2)),
    }
    words = ["left", "", "right"]
    if suffix == "npz":
        np.savez(path, **members, word=np.array(words))
    else:
        with h5py.File(path, "w") as file:
            for name, value in members.items():
                file[name] = value
            file["word"] = words
    source = open_source(path)
    assert read_columns(["word", "age", "side"], None, path, source) == {
        "word": words, "age": ["1.5", "", "3.0"], "side": ["1", "2", "2"]
    }  # fmt: skip
    assert list(read_columns(["age", "side"], ["side"], path, source)) == ["side"]
    with pytest.raises(ValueError, match=r"has no weight; it has .*age"):
        read_columns(["weight"], None, path, source)
    with pytest.raises(ValueError, match="does not name side"):
        read_columns(["age"], ["side"], path, source)
    if suffix == "npz":
        with pytest.raises(ValueError, match=r"table .* of shape \(3, 2\)"):
            read_columns(["table"], None, path, source)


def test_members_are_of_array_files(folder):
    with pytest.raises(ValueError, match="give the path of a table"):
        read_columns(["age"], None, folder, open_source(folder))
