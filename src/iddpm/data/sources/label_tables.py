"""Class labels from folders, file names or a CSV table."""

import json
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
DATASET_JSON = "dataset.json"
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


def labels_of_files(rule: str, keys: Sequence[str], folder: Path, *, listed: bool = True) -> Labels:
    """Return the labels of files by ``rule``.

    Args:
        rule: ``"none"``; ``"folder"`` (the first folder below ``folder``); ``"prefix"`` (the file
            name up to its first underscore); ``"auto"`` (by the ``dataset.json`` of StyleGAN's
            tools where there is one; else as ``"folder"`` when every file lies in one and there
            are at least two, else none); or the path of a text table, relative to the working
            directory or to ``folder``, in which a column names the files, with or without their
            suffixes, and one is called label, class or the like, is the only other one, or is
            named after a colon (``table.csv:diagnosis``), or in which a column for each class
            holds 1 for the items of it and 0 for others.
        keys: posix paths relative to ``folder``.
        folder: where the files lie.
        listed: whether a ``dataset.json`` in the folder is looked for.

    Raises:
        ValueError: a file has no label by the rule, or the table cannot be understood.
        NotClassesError: by ``"auto"``, folders that look like a split or like pairs.
        FileNotFoundError: the table does not exist.
    """
    if rule == "none":
        return None, ()
    if rule == "auto" and listed and (folder / DATASET_JSON).is_file():
        named = folder / DATASET_JSON
        found = listed_labels(named.read_bytes(), str(named), keys)
        if found is not None:
            return found
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
    name, column = table_and_column(rule)
    if name.lower().endswith(TABLES):
        table = find_table(name, folder, "label table")
        rows = _read_table(table, keys, column)
        return class_table(rows_of(rows, keys, table, "label", "<class>"))
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


def table_and_column(rule: str) -> tuple[str, str | None]:
    """Return the path of a table of labels and the column that a rule names after a colon."""
    path, colon, column = rule.rpartition(":")
    return (path, column) if colon and path.lower().endswith(TABLES) else (rule, None)


def listed_labels(text: bytes, title: str, keys: Sequence[str]) -> Labels | None:
    """Return the labels that a ``dataset.json`` of StyleGAN's tools lists.

    It holds ``{"labels": [["00000/img00000000.png", 6], ...]}``, or null for no labels.

    Args:
        text: of the file.
        title: for messages.
        keys: posix paths as in the list.

    Returns:
        The labels; None where the file is of another kind.

    Raises:
        ValueError: no JSON, labels that are no classes, or an item that is not in the list.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{title} is not JSON ({error}); set data.labels=none") from None
    if not isinstance(content, dict) or "labels" not in content:
        return None
    pairs = content["labels"]
    if pairs is None:
        return None, ()
    if not isinstance(pairs, list) or not all(isinstance(p, list) and len(p) == 2 for p in pairs):
        return None
    known = {normal_name(str(name)): label for name, label in pairs}
    found = []
    for key in keys:
        label = known.get(key)
        if isinstance(label, bool) or not isinstance(label, int | str):
            what = "no label" if label is None else f"the label {str(label)[:40]}"
            raise ValueError(
                f"{title} gives {key} {what}; labels are whole numbers or words: set data.labels"
            )
        found.append(str(label))
    return class_table(found)


def _read_table(path: Path, keys: Sequence[str], column: str | None = None) -> dict[str, str]:
    """Return the labels by the names in a table."""
    table = open_table(path, named=True)
    header = table.header or []
    lines = list(table)
    known, rows = names_of(keys), [cells for _, cells in lines]
    file = _file_column(header, rows, known)
    if file is not None and len(header) == 2 and normal_name(header[file]) in known:  # no header
        lines.insert(0, (1, header))
    label = None if file is None else _label_column(header, file, column)
    classes = None
    if label is None and file is not None and column is None:
        classes = _one_hot(header, rows, file)
    if file is None or (label is None and classes is None):
        wanted = "" if column is None else f", none of them {column}"
        raise ValueError(
            f"{path} starts with {', '.join(header)[:120] or 'nothing'}{wanted}; its first line "
            "must be file,label, or name a column file and a column label among others; another "
            f"column of labels is named as in -s data.labels={path.name}:{(header or ['x'])[-1]}"
        )
    found_labels: dict[str, str] = {}
    for number, (line, cells) in enumerate(lines):
        given = cells[label] if label is not None else (classes or [])[number]
        name = normal_name(cells[file])
        if not cells[file] or not given:
            raise ValueError(f"{path}, line {line}: needs a file and a label")
        if found_labels.setdefault(name, given) != given:
            raise ValueError(f"{path} gives {name} two labels, {found_labels[name]} and {given}")
    return found_labels


def _file_column(
    header: Sequence[str], rows: Sequence[Sequence[str]], known: set[str]
) -> int | None:
    """Return the column that names most of the items, before others one that is called so."""
    called = [name.lower() in _FILE_NAMES for name in header]
    hits = [
        sum(normal_name(cells[k]) in known for cells in rows) + (normal_name(header[k]) in known)
        for k in range(len(header))
    ]
    best = max(range(len(header)), key=lambda k: (hits[k], called[k]), default=None)
    if best is None or hits[best] or called.count(True) == 1 or len(header) == 2:
        return best
    return None


def _label_column(header: Sequence[str], file: int, column: str | None) -> int | None:
    """Return the column of the classes; None where its name does not say so."""
    if column is not None:
        return header.index(column) if header.count(column) == 1 else None
    if len(header) == 2:
        return 1 - file
    if "file" in header and "label" in header:
        return header.index("label")
    named = [k for k, name in enumerate(header) if name.lower() in LABEL_NAMES and k != file]
    return named[0] if len(named) == 1 else None


def _one_hot(header: Sequence[str], rows: Sequence[Sequence[str]], file: int) -> list[str] | None:
    """Return the class of each row where every other column is 0 or 1, and one of them 1."""
    classes = [k for k in range(len(header)) if k != file]
    found = []
    for cells in rows:
        ones = [k for k in classes if cells[k] in ("1", "1.0")]
        if len(ones) != 1 or any(cells[k] not in ("0", "0.0", "1", "1.0") for k in classes):
            return None
        found.append(header[ones[0]])
    return found or None
