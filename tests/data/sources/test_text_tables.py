"""Text tables as they come: delimiters, decimal marks, encodings, headers, labels, time."""

import warnings

import numpy as np
import pytest

from iddpm.data.conditioning.conditions import read_columns
from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.label_tables import labels_of_files
from iddpm.data.sources.open import open_source
from iddpm.data.sources.series import read_series

VALUES = np.array([[0.5, -0.25, 1.0], [0.125, 0.75, -1.5], [2.25, -0.5, 0.0625], [3.5, 1, 2.5]])


def written(path, rows, *, mark=",", comma=False, header=None, quote="", end="", encoding="utf-8"):
    texts = [[f"{v:g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    if comma:
        texts = [[text.replace(".", ",") for text in row] for row in texts]
    lines = [mark.join(f"{quote}{text}{quote}" for text in row) + end for row in texts]
    if header is not None:
        lines.insert(0, mark.join(header) + end)
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mark": ";"},
        {"mark": "\t"},
        {"mark": "  "},
        {"mark": ", "},
        {"mark": ";", "comma": True},
        {"mark": "\t", "comma": True},
        {"mark": " ", "comma": True},
        {"quote": '"'},
        {"quote": '"', "comma": True},
        {"mark": ";", "quote": '"'},
        {"end": ","},
        {"mark": ";", "end": ";", "comma": True},
        {"header": ["a", "b", "c"]},
        {"header": ["a", "b", "c"], "mark": ";", "comma": True, "end": ";"},
        {"encoding": "utf-16"},
        {"encoding": "utf-16-le"},
        {"encoding": "utf-16-be"},
        {"encoding": "utf-8-sig", "header": ["ä", "b", "c"]},
        {"end": "  # a note"},
    ],
    ids=str,
)
def test_the_same_numbers_in_every_dress(options, tmp_path):
    series = read_series(written(tmp_path / "a.csv", VALUES.tolist(), **options))
    assert series.values.tolist() == VALUES.tolist()
    assert series.labels is None
    assert ("header 3 names" in series.taken) == ("header" in options)
    assert ("decimal commas" in series.taken) == bool(options.get("comma"))


def test_comments_are_left_out_and_counted_and_the_last_before_the_rows_names_columns(tmp_path):
    np.savetxt(tmp_path / "a.txt", VALUES, delimiter=",", header="by hand\na,b,label7")
    series = read_series(tmp_path / "a.txt")
    assert series.values.tolist() == VALUES.tolist()
    assert "header 3 names" in series.taken
    assert "1 comments skipped" in series.taken


@pytest.mark.parametrize("cell", ["", "NA", "nan", "n/a", "?"])
@pytest.mark.parametrize("row", [0, 1, 3])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_missing_number_is_refused_by_line_and_column(cell, row, column, tmp_path):
    rows = VALUES.tolist()
    rows[row][column] = cell
    path = written(tmp_path / "a.csv", rows, mark=";", comma=True)
    with pytest.raises(ValueError, match=f"line {row + 1}, column {column + 1} "):
        read_series(path)


@pytest.mark.parametrize("cell", ["1_0", "1.5.5", "x", "inf", "1e999", "0x10", "-"])
def test_a_word_among_numbers_is_refused_by_its_place(cell, tmp_path):
    rows = VALUES.tolist()
    rows[2][1] = cell
    with pytest.raises(ValueError, match="line 3, column 2 holds"):
        read_series(written(tmp_path / "a.csv", rows))


@pytest.mark.parametrize("text", ["1,234;5,678\n2,345;6,789\n", "1,5;2.5\n3,5;4,5\n"])
def test_decimal_commas_that_may_part_thousands_are_refused(text, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match="decimal comma"):
        read_series(tmp_path / "a.csv")


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("labels", ["auto", "asked"])
@pytest.mark.parametrize("mark", [",", ";", "\t"])
def test_words_are_classes(last, labels, mark, tmp_path):
    words = ["calm", "alert", "calm", "alert"]
    rows = [[*row, w] if last else [w, *row] for row, w in zip(VALUES.tolist(), words, strict=True)]
    path = written(tmp_path / "a.csv", rows, mark=mark)
    series = read_series(path, labels if labels == "auto" else "last" if last else "first")
    assert series.values.tolist() == VALUES.tolist()
    assert (series.class_names, series.labels.tolist()) == (("alert", "calm"), [1, 0, 1, 0])


def test_a_column_is_named_by_the_header(tmp_path):
    rows = [[a, k % 2, b, c] for k, (a, b, c) in enumerate(VALUES.tolist())]
    path = written(tmp_path / "a.csv", rows, header=["a", "Label", "b", "c"])
    for rule in ("auto", "Label"):
        series = read_series(path, rule)
        assert series.labels.tolist() == [0, 1, 0, 1]
        assert series.values.tolist() == VALUES.tolist()
    with pytest.raises(ValueError, match="a, Label, b, c"):
        read_series(path, "state")


def test_large_class_numbers_stay_apart(tmp_path):
    rows = [[1000001 + k % 2, *row] for k, row in enumerate(VALUES.tolist())]
    assert read_series(written(tmp_path / "a.csv", rows)).class_names == ("1000001", "1000002")


def test_words_that_all_differ_are_no_classes(tmp_path):
    rows = [[f"2020-01-0{k + 1}", *row] for k, row in enumerate(VALUES.tolist())]
    path = written(tmp_path / "a.csv", rows)
    with pytest.raises(ValueError, match=r"data\.labels=first"):
        read_series(path)
    with pytest.warns(UserWarning, match="column 1 holds words and is skipped"):
        assert read_series(path, "none").values.tolist() == VALUES.tolist()


@pytest.mark.parametrize(
    ("column", "said"), [([7, 7, 7, 7], "only the number 7"), ([0, 1, 2, 3], "like an index")]
)
@pytest.mark.parametrize("last", [False, True])
def test_labels_that_say_nothing_are_warned_of(column, said, last, tmp_path):
    rows = [
        [*row, k] if last else [k, *row] for row, k in zip(VALUES.tolist(), column, strict=True)
    ]
    path = written(tmp_path / "a.csv", rows)
    with pytest.warns(UserWarning, match=said + ".*data.labels=none"):
        read_series(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_series(path, "last" if last else "first").values.shape == (4, 3)
        assert read_series(path, "none").values.shape == (4, 4)


@pytest.mark.parametrize("name", ["t", "Time (s)", "time_ms", None])
def test_signals_run_down_columns_on_request(name, tmp_path):
    times = np.arange(60) * 0.004
    waves = np.stack([np.sin(times * 9), np.cos(times * 7)], 1).round(4)
    rows = np.column_stack([times, waves]).tolist()
    path = written(tmp_path / "a.csv", rows, header=None if name is None else [name, "ecg", "resp"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        source = open_source(path, layout="columns")
        series = read_series(path, layout="columns")
    assert (source.shape, len(source)) == ((1, 60), 2)
    assert any("read as time" in str(w.message) for w in said) == (name is None)
    assert series.values.tolist() == waves.T.tolist()
    with pytest.warns(UserWarning, match=r"data\.layout=columns"):
        assert read_series(path).values.shape == (60, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_series(path, layout="rows")


def test_other_layouts_and_columns_are_refused(tmp_path):
    path = written(tmp_path / "a.csv", VALUES.tolist())
    with pytest.raises(ValueError, match="use rows or columns"):
        open_source(path, layout="NHWC")
    with pytest.raises(ValueError, match="column='x'"):
        open_source(path, column="x")


def test_a_first_row_that_numbers_the_columns_is_said(tmp_path):
    with pytest.warns(UserWarning, match="line 1 numbers the columns"):
        read_series(written(tmp_path / "a.csv", [[0, 1, 2], *VALUES.tolist()]), "none")


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("header", [["file", "label"], ["who", "what"], None])
@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("names", [["a.png", "b.png"], ["a", "b"], ["in/a.png", "in/b"]])
def test_label_tables_take_any_two_columns(mark, header, swap, names, tmp_path):
    if swap and header == ["who", "what"]:
        header = header[::-1]
    rows = [[names[0], "dog"], [names[1], "cat"]]
    rows = [row[::-1] for row in rows] if swap else rows
    header = header[::-1] if swap and header else header
    written(tmp_path / "t.csv", rows, mark=mark, header=header)
    labels, classes = labels_of_files("t.csv", ["in/a.png", "in/b.png"], tmp_path)
    assert (labels.tolist(), classes) == ([1, 0], ("cat", "dog"))


def test_names_without_suffix_that_fit_two_items_are_refused(tmp_path):
    written(tmp_path / "t.csv", [["a", "x"]], header=["file", "label"])
    with pytest.raises(ValueError, match="2 items have that name"):
        labels_of_files("t.csv", ["a.png", "a.jpg"], tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_conditions_have_decimal_commas_as_numbers(encoding, tmp_path):
    source = ArraySource(np.zeros((2, 4), np.uint8), name="a.npy", layout="NL")
    written(
        tmp_path / "t.csv", [["0", "0,5", "a,b"], ["1", "1", ""]], mark=";", encoding=encoding,
        header=["item", "age", "word"],
    )  # fmt: skip
    with pytest.warns(UserWarning, match="age has decimal commas"):
        columns = read_columns("t.csv", None, tmp_path, source)
    assert columns == {"age": ["0.5", "1"], "word": ["a,b", ""]}


def test_the_line_by_which_excel_knows_the_delimiter_is_left_out(tmp_path):
    path = written(tmp_path / "a.csv", VALUES.tolist(), mark=";", comma=True, encoding="utf-8-sig")
    path.write_text("\ufeffsep=;\n" + path.read_text("utf-8-sig"), encoding="utf-8")
    assert np.array_equal(read_series(path, "none").values, VALUES)
