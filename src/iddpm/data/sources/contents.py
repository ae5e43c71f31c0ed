"""What a folder holds, counted by kind; what is ambiguous is refused."""

import os
import warnings
from pathlib import Path

from iddpm.data.formats import FORMATS, format_of
from iddpm.data.sources.folder import by_suffix, every_file
from iddpm.data.sources.picture import SUFFIXES
from iddpm.runtime.made_files import partly_made

_KINDS = {"picture": tuple(sorted(SUFFIXES))} | {f.name: f.suffixes for f in FORMATS if f.folders}
_COMPANIONS = frozenset((".csv", ".tsv", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".md", ".xml"))
"""Suffixes of tables and notes, which lie beside items and are none."""
_LITTER = frozenset(("thumbs.db", "desktop.ini", "license", "readme", "dicomdir"))
_NAMED = 5


def check_contents(folder: Path) -> None:
    """Refuse a folder of several kinds of items; warn of a part of a set and of other files.

    Raises:
        ValueError: pictures, sounds and volumes together; names one file of each kind.
    """
    kinds: dict[str, list[str]] = {}
    others: list[str] = []
    for name in every_file(folder):
        kind = _kind_of(folder, name)
        if kind is not None:
            kinds.setdefault(kind, []).append(name)
        else:
            others.append(name)
    if len(kinds) > 1:
        found = " and ".join(
            f"{_counted(len(names), kind)} (such as {names[0]})" for kind, names in kinds.items()
        )
        raise ValueError(
            f"{folder} holds {found}: all items of a data set must be of one kind, so give a "
            "folder with one of these"
        )
    part = partly_made(folder)
    if kinds and part:
        warnings.warn(part, stacklevel=3)
    left = [name for name in others if not _is_companion(name)]
    if kinds and left:
        kind, names = next(iter(kinds.items()))
        warnings.warn(
            f"{folder}: read {_counted(len(names), kind)} and skipped {by_suffix(left)} of "
            "unsupported kinds: "
            f"{', '.join(left[:_NAMED])}{(', ...' if len(left) > _NAMED else '')}",
            stacklevel=3,
        )


def _kind_of(folder: Path, name: str) -> str | None:
    lower = name.lower()
    kind = next((kind for kind, suffixes in _KINDS.items() if lower.endswith(suffixes)), None)
    if kind is not None or _is_companion(name):
        return kind
    found = format_of(folder / name)
    return found.name if found is not None and found.folders else None


def _is_companion(name: str) -> bool:
    base = os.path.basename(name).lower()
    return base in _LITTER or os.path.splitext(base)[1] in _COMPANIONS


def _counted(count: int, kind: str) -> str:
    return f"{count} {kind}{'s' if count > 1 else ''}"
