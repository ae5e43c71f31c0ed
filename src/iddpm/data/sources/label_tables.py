"""Class labels from folders, file names or a CSV table."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.by_name import find_table, normal_name, rows_of

_WORD = r"([-_ ]?(set|data|images|imgs|[0-9]+))?"
_TRAINING = re.compile(rf"(train|training){_WORD}")
_APART = re.compile(rf"(val|valid|validation|dev|devel|eval|test|testing|holdout){_WORD}")
_IMAGES = re.compile(r"(train|val|test)?[-_ ]?(images?|imgs?|inputs?|photos?|pictures?|sources?)")
_MASKS = re.compile(
    r"(train|val|test)?[-_ ]?(masks?|labels?|labelled|annotations?|segmentations?|segs?|gt|"
    r"ground[-_ ]?truths?|targets?|outputs?)"
)

Labels = tuple[NDArray[np.int64] | None, tuple[str, ...]]
RULES = ("auto", "none", "folder", "prefix")
"""Those of files, beside a CSV table."""


def class_table(names: Sequence[str]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Number the classes in sorted order, by value when every name is an integer.

    Returns:
        The class number of each entry, int64 ``[N]``, and the class names.
    """
    distinct = set(names)
    try:
        ordered = sorted(distinct, key=lambda name: (int(name), name))
    except ValueError:
        ordered = sorted(distinct)
    number = {name: index for index, name in enumerate(ordered)}
    return np.array([number[name] for name in names], dtype=np.int64), tuple(ordered)


def labels_of_files(rule: str, keys: Sequence[str], folder: Path) -> Labels:
    """Return the labels of files by ``rule``.

    Args:
        rule: ``"none"``; ``"folder"`` (the first folder below ``folder``); ``"prefix"`` (the file
            name up to its first underscore); ``"auto"`` (as ``"folder"`` when every file lies in
            one and there are at least two, else none); or the path of a CSV table with the header
            ``file,label``, relative to the working directory or to ``folder``.
        keys: posix paths relative to ``folder``.
        folder: where the files lie.

    Raises:
        ValueError: a file has no label by the rule, or the table cannot be understood.
        NotClassesError: by ``"auto"``, folders that look like a split or like pairs.
        FileNotFoundError: the table does not exist.
    """
    if rule == "none":
        return None, ()
    if rule in ("auto", "folder"):
        tops = [path.parts[0] if len(path.parts) > 1 else "" for path in map(PurePosixPath, keys)]
        if rule == "auto" and ("" in tops or len(set(tops)) < 2):
            return None, ()
        if rule == "auto":
            refuse_other_folders(set(tops), folder)
        if "" in tops:
            raise ValueError(
                f"labels='folder', but {keys[tops.index('')]} lies in no subfolder of {folder}; "
                "put every image into a folder named after its class"
            )
        return class_table(tops)
    if rule == "prefix":
        return class_table([_prefix(key) for key in keys])
    if rule.lower().endswith(".csv"):
        table = find_table(rule, folder, "label table")
        return class_table(rows_of(_read_table(table), keys, table, "label", "<class>"))
    raise ValueError(
        f"labels={rule!r} is not a rule; use 'auto', 'none', 'folder', 'prefix' or the path of a "
        ".csv file with the header file,label"
    )


class NotClassesError(ValueError):
    """Folders look like the parts of a split or like pairs, and not like classes."""


def refuse_other_folders(tops: set[str], folder: Path) -> None:
    """Refuse folders that are named as a split or as images and masks.

    Raises:
        NotClassesError: says what to give instead.
    """
    shown = sorted(tops)
    ways = (
        "take the folders for classes with -s data.labels=folder, or all items without classes "
        "with -s data.labels=none"
    )
    training = [top for top in shown if _TRAINING.fullmatch(top.lower())]
    apart = [top for top in shown if _APART.fullmatch(top.lower())]
    if apart and (training or len(apart) == len(shown)):
        split = [*training, *apart]
        raise NotClassesError(
            f"{folder} holds {' and '.join(split)}, which are the parts of a split and no "
            f"classes: give {folder / split[0]} (data.held_out sets items of it apart), {ways}"
        )
    images = [top for top in shown if _IMAGES.fullmatch(top.lower())]
    masks = [top for top in shown if _MASKS.fullmatch(top.lower())]
    if images and masks:
        raise NotClassesError(
            f"{folder} holds {images[0]} and {masks[0]}, which are pairs and no classes: give "
            f"{folder / images[0]}, with -s data.given={folder / masks[0]} to condition on the "
            f"other, {ways}"
        )


def _prefix(key: str) -> str:
    prefix, underscore, _ = PurePosixPath(key).stem.partition("_")
    if not underscore or not prefix:
        raise ValueError(
            f"labels='prefix', but the name of {key} has no class before an underscore; "
            "name files like cat_001.png"
        )
    return prefix


def _read_table(table: Path) -> dict[str, str]:
    rows: dict[str, str] = {}
    # utf-8-sig: spreadsheets put a byte-order mark before the first column's name.
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            if not {"file", "label"} <= set(reader.fieldnames or ()):
                raise ValueError(
                    f"{table} starts with {reader.fieldnames}; its first line must be file,label"
                )
            for row in reader:
                if not row["file"] or not row["label"]:
                    raise ValueError(f"{table}, line {reader.line_num}: needs a file and a label")
                name, label = normal_name(row["file"]), row["label"].strip()
                if rows.setdefault(name, label) != label:
                    raise ValueError(f"{table} gives {name} two labels, {rows[name]} and {label}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{table} is not a CSV text in UTF-8: {error}") from error
    return rows
