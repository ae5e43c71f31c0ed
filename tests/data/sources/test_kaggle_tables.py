"""Tables of labels as competitions and archives publish them."""

import pytest

from iddpm.data.sources.label_tables import labels_of_files

KEYS = [f"train/{name}.jpg" for name in ("ISIC_1", "ISIC_2", "ISIC_3")]


def classes(path, text, rule="t.csv"):
    (path / "t.csv").write_text(text)
    numbers, names = labels_of_files(rule, KEYS, path)
    return [names[k] for k in numbers]


@pytest.mark.parametrize(
    "text",
    [
        "image_id,label\nISIC_1,a\nISIC_2,b\nISIC_3,a\nISIC_4,b\n",
        "id_code,diagnosis\nISIC_1,a\nISIC_2,b\nISIC_3,a\n",
        "lesion_id,image_id,label,age\nL1,ISIC_1,a,5\nL1,ISIC_2,b,6\nL2,ISIC_3,a,7\n",
        "image,a,b\nISIC_1,1.0,0.0\nISIC_2,0.0,1.0\nISIC_3,1.0,0.0\n",
        "id,name,target\n1,ISIC_1.jpg,a\n2,ISIC_2.jpg,b\n3,ISIC_3.jpg,a\n",
        "ISIC_1,a\nISIC_2,b\nISIC_3,a\n",
    ],
)
def test_the_columns_are_found(tmp_path, text):
    assert classes(tmp_path, text) == ["a", "b", "a"]


def test_another_column_is_named(tmp_path):
    text = "lesion_id,image_id,dx,age\nL1,ISIC_1,a,5\nL1,ISIC_2,b,6\nL2,ISIC_3,a,7\n"
    with pytest.raises(ValueError, match=r"named as in -s data\.labels=t\.csv:age"):
        classes(tmp_path, text)
    assert classes(tmp_path, text, "t.csv:dx") == ["a", "b", "a"]
    assert classes(tmp_path, text, "t.csv:lesion_id") == ["L1", "L1", "L2"]
    with pytest.raises(ValueError, match="none of them sex"):
        classes(tmp_path, text, "t.csv:sex")


def test_rows_of_several_classes_are_no_labels(tmp_path):
    with pytest.raises(ValueError, match="its first line must be file,label"):
        classes(tmp_path, "image,a,b\nISIC_1,1,1\nISIC_2,0,1\nISIC_3,1,0\n")
