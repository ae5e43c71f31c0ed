import pytest

from iddpm.data.sources.label_tables import class_table, labels_of_files

KEYS = ["cat/a.png", "cat/deep/b.png", "dog/a.png"]


def test_classes_are_sorted_by_name():
    labels, names = class_table(["dog", "cat", "dog"])
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == "int64"
    assert names == ("cat", "dog")


def test_integers_are_sorted_by_value():
    assert class_table(["10", "9", "2"])[1] == ("2", "9", "10")


def test_one_word_among_integers_means_names():
    assert class_table(["10", "9", "x"])[1] == ("10", "9", "x")


@pytest.mark.parametrize("rule", ["auto", "folder"])
def test_folders_name_the_classes(rule, tmp_path):
    labels, names = labels_of_files(rule, KEYS, tmp_path)
    assert (labels.tolist(), names) == ([0, 0, 1], ("cat", "dog"))


@pytest.mark.parametrize("keys", [["a.png", "cat/b.png", "dog/c.png"], ["cat/a.png", "cat/b.png"]])
def test_auto_wants_two_folders_and_nothing_outside(keys, tmp_path):
    assert labels_of_files("auto", keys, tmp_path) == (None, ())


def test_none_has_no_labels(tmp_path):
    assert labels_of_files("none", KEYS, tmp_path) == (None, ())


def test_folder_rule_names_a_file_outside(tmp_path):
    with pytest.raises(ValueError, match=r"stray\.png lies in no subfolder"):
        labels_of_files("folder", ["cat/a.png", "stray.png"], tmp_path)


def test_prefix_is_the_part_before_the_first_underscore(tmp_path):
    labels, names = labels_of_files("prefix", ["x/dog_1_2.png", "cat_1.png"], tmp_path)
    assert (labels.tolist(), names) == ([1, 0], ("cat", "dog"))


@pytest.mark.parametrize("key", ["cat.png", "_1.png"])
def test_a_name_without_prefix_is_named(key, tmp_path):
    with pytest.raises(ValueError, match=key):
        labels_of_files("prefix", ["cat_1.png", key], tmp_path)


def test_a_table_labels_by_path_or_by_name(tmp_path):
    # With the mark that spreadsheets write, a backslash path and a row for no picture.
    text = (
        "\ufefffile,label,note\ncat\\a.png,feline,x\nb.png, feline,\ndog/a.png,canine,\nz.png,q,\n"
    )
    table = tmp_path / "labels.csv"
    table.write_text(text, encoding="utf-8")
    for rule in (str(table), "labels.csv"):
        labels, names = labels_of_files(rule, KEYS, tmp_path)
        assert (labels.tolist(), names) == ([1, 1, 0], ("canine", "feline"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\ncat/a.png,x\ndog/a.png,y\n", "no label for cat/deep/b.png"),
        ("file,label\na.png,x\nb.png,y\n", "2 items have that name"),
        ("name,class,note\na.png,x,\nb.png,y,\n", "2 items have that name"),
        ("where,what,note\na.png,x,\n", "first line must be file,label"),
        ("", "first line must be file,label"),
        ("file,label\nb.png,x\nb.png,y\n", "two labels, x and y"),
        ("file,label\nb.png,\n", "line 2: needs a file and a label"),
    ],
)
def test_a_table_that_cannot_serve_says_why(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        labels_of_files("t.csv", KEYS, tmp_path)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        labels_of_files("nowhere.csv", KEYS, tmp_path)


def test_a_binary_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"file,label\n\xe9.png,x\n")
    with pytest.raises(ValueError, match="UTF-8"):
        labels_of_files("t.csv", KEYS, tmp_path)


def test_an_unknown_rule_lists_the_rules(tmp_path):
    with pytest.raises(ValueError, match="'prefix'"):
        labels_of_files("folders", KEYS, tmp_path)


@pytest.mark.parametrize("names", [("images", "masks"), ("train", "val")])
def test_pairs_and_splits_further_down_are_reported(names, tmp_path):
    keys = [f"set/{name}/{k}.png" for name in names for k in range(3)]
    with pytest.warns(UserWarning, match=f"set holds {names[0]} and {names[1]}"):
        assert labels_of_files("auto", keys, tmp_path) == (None, ())


def test_other_folders_further_down_are_not(tmp_path, recwarn):
    for keys in (
        ["set/a/1.png", "set/b/2.png"],
        ["1.png", "2.png"],
        ["set/1.png", "set/2.png"],
        [],
    ):
        labels_of_files("auto", keys, tmp_path)
    assert not recwarn.list
