"""What a folder holds, counted by kind; what is ambiguous is refused."""

import os
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from iddpm.data.formats import FORMATS, Format, format_of
from iddpm.data.sources.folder import by_suffix, every_file
from iddpm.data.sources.picture import SUFFIXES
from iddpm.runtime.made_files import partly_made

_KINDS = {"picture": tuple(sorted(SUFFIXES))} | {f.name: f.suffixes for f in FORMATS if f.folders}
_ALONE = {f.name: f.suffixes for f in FORMATS if f.folder is not None}
"""Formats whose files are items where there are none of the kinds above."""
_COMPANIONS = frozenset((".csv", ".tsv", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".md", ".xml"))
"""Suffixes of tables and notes, which lie beside items and are none."""
_TABLES = "text table"
_LITTER = frozenset(
    ("thumbs.db", "desktop.ini", "license", "readme", "dicomdir", "records", "annotators")
)
_NAMED = 5


def check_contents(folder: Path) -> Format | None:
    """Refuse a folder of several kinds of items; warn of a part of a set and of other files.

    Returns:
        The format of the items; None where they are pictures, or where there are none.

    Raises:
        ValueError: pictures, sounds and volumes together; names one file of each kind.
    """
    kinds, others = _sorted_out(every_file(folder), partial(_kind_of, folder))
    if not kinds:
        kinds, others = _sorted_out(others, _kind_alone)
        tables = kinds.pop(_TABLES, [])
        if kinds or not all(map(_is_companion, others)):
            others += tables  # which describe what lies beside them
        elif tables:
            kinds = {_TABLES: tables}
    if len(kinds) > 1:
        listed = " and ".join(
            f"{_counted(len(names), kind)} (such as {names[0]})" for kind, names in kinds.items()
        )
        raise ValueError(
            f"{folder} holds {listed}: all items of a data set must be of one kind, so give a "
            "folder with one of these"
        )
    part = partly_made(folder)
    if kinds and part:
        warnings.warn(part, stacklevel=3)
    found = next((f for f in FORMATS if f.name in kinds), None)
    parts = found.parts if found is not None else ()
    left = [n for n in others if not _is_companion(n) and not n.lower().endswith(parts)]
    if kinds and left:
        kind, names = next(iter(kinds.items()))
        warnings.warn(
            f"{folder}: read {_counted(len(names), kind)} and skipped {by_suffix(left)} of "
            "unsupported kinds: "
            f"{', '.join(left[:_NAMED])}{(', ...' if len(left) > _NAMED else '')}",
            stacklevel=3,
        )
    return found


def _kind_of(folder: Path, name: str) -> str | None:
    lower = name.lower()
    kind = next((kind for kind, suffixes in _KINDS.items() if lower.endswith(suffixes)), None)
    if kind is not None or _is_companion(name):
        return kind
    found = format_of(folder / name)
    return found.name if found is not None and found.folders else None


def _kind_alone(name: str) -> str | None:
    lower = name.lower()
    return next((kind for kind, suffixes in _ALONE.items() if lower.endswith(suffixes)), None)


def _sorted_out(
    names: Iterable[str], kind_of: Callable[[str], str | None]
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the files of each kind, and those of none."""
    found: dict[str, list[str]] = {}
    others: list[str] = []
    for name in names:
        kind = kind_of(name)
        (others if kind is None else found.setdefault(kind, [])).append(name)
    return found, others


def _is_companion(name: str) -> bool:
    base = os.path.basename(name).lower()
    return base in _LITTER or os.path.splitext(base)[1] in _COMPANIONS


def _counted(count: int, kind: str) -> str:
    return f"{count} {kind}{'s' if count > 1 else ''}"
