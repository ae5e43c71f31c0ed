"""Class labels from folders, file names or a CSV table."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.by_name import find_table, names_of, normal_name, rows_of
from iddpm.data.sources.text_tables import TABLES, open_table

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
"""Those of files, beside a table."""
LABEL_NAMES = ("label", "labels", "class", "classes", "target", "category")
"""What a column of classes may be called."""
_FILE_NAMES = ("file", "filename", "file_name", "image", "path", "name", "id")


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
            one and there are at least two, else none); or the path of a text table of two columns,
            or with the header ``file,label`` among others, relative to the working directory or
            to ``folder``. Its names may lack suffixes.
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
            _warn_of_pairs(keys, folder)
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
    if rule.lower().endswith(TABLES):
        table = find_table(rule, folder, "label table")
        return class_table(rows_of(_read_table(table, keys), keys, table, "label", "<class>"))
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
        "read the folders as classes with -s data.labels=folder, or all items without classes "
        "with -s data.labels=none"
    )
    training = [top for top in shown if _TRAINING.fullmatch(top.lower())]
    apart = [top for top in shown if _APART.fullmatch(top.lower())]
    if apart and (training or len(apart) == len(shown)):
        split = [*training, *apart]
        raise NotClassesError(
            f"{folder} holds {' and '.join(split)}, which look like a split and not like "
            f"classes: give {folder / split[0]} (data.held_out holds out items of it), {ways}"
        )
    images = [top for top in shown if _IMAGES.fullmatch(top.lower())]
    masks = [top for top in shown if _MASKS.fullmatch(top.lower())]
    if images and masks:
        raise NotClassesError(
            f"{folder} holds {images[0]} and {masks[0]}, which look like pairs and not like "
            f"classes: give {folder / images[0]}, with -s data.given={folder / masks[0]} to "
            f"condition on the other, {ways}"
        )


def _warn_of_pairs(keys: Sequence[str], folder: Path) -> None:
    """Warn where folders further down, which are no classes, are named as a split or as pairs."""
    parents = [PurePosixPath(key).parent.parts for key in keys] or [()]
    depth = 0
    while len({parts[: depth + 1] for parts in parents}) == 1 and len(parents[0]) > depth:
        depth += 1
    below = {parts[depth] for parts in parents if len(parts) > depth}
    try:
        refuse_other_folders(below, folder.joinpath(*parents[0][:depth]))
    except NotClassesError as error:
        warnings.warn(f"reading all items without classes: {error}", stacklevel=3)


def _prefix(key: str) -> str:
    prefix, underscore, _ = PurePosixPath(key).stem.partition("_")
    if not underscore or not prefix:
        raise ValueError(
            f"labels='prefix', but the name of {key} has no class before an underscore; "
            "name files like cat_001.png"
        )
    return prefix


def _read_table(path: Path, keys: Sequence[str]) -> dict[str, str]:
    """Return the labels by the names in a table."""
    table = open_table(path, named=True)
    header = table.header or []
    lines = [(line, cells) for line, cells in table]
    files = [k for k, name in enumerate(header) if name.lower() in _FILE_NAMES]
    labels = [k for k, name in enumerate(header) if name.lower() in LABEL_NAMES]
    if "file" in header and "label" in header:
        files, labels = [header.index("file")], [header.index("label")]
    if len(header) == 2 and not (len(files) == 1 and len(labels) == 1 and files != labels):
        # Two columns under other names, or under none: one of them names items.
        rows, known = [cells for _, cells in lines], names_of(keys)
        found = [sum(normal_name(row[k]) in known for row in rows) for k in (0, 1)]
        files, labels = ([1], [0]) if found[1] > found[0] else ([0], [1])
        if normal_name(header[files[0]]) in known:  # no header
            lines.insert(0, (1, header))
    if len(files) != 1 or len(labels) != 1:
        raise ValueError(
            f"{path} starts with {', '.join(header)[:120] or 'nothing'}; its first line must be "
            "file,label, or name a column file and a column label among others"
        )
    found_labels: dict[str, str] = {}
    for line, cells in lines:
        name, label = normal_name(cells[files[0]]), cells[labels[0]]
        if not cells[files[0]] or not label:
            raise ValueError(f"{path}, line {line}: needs a file and a label")
        if found_labels.setdefault(name, label) != label:
            raise ValueError(f"{path} gives {name} two labels, {found_labels[name]} and {label}")
    return found_labels
