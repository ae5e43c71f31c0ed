"""Rows of the bench: settings that are tried on top of the base of a data set, one file each."""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
ROWS = HERE / "rows"
BASE = "base"
"""The row without settings, which the others are compared with."""
TOGETHER = "+"
"""Joins the names of rows that are tried together, such as ``edm+muon``."""
_KEYS = {"tries", "published", "settings", "by_data", "data", "together"}
_KEYS |= {"ema_lengths", "without_base"}
_AUGMENTATIONS = ("flip", "random_crop", "augment")


@dataclass(frozen=True)
class Row:
    """What is tried.

    Attributes:
        name: of its file, or those of several joined.
        tries: a sentence for the table.
        published: the effect that is published, and where.
        settings: on top of the base of every data set, nested.
        by_data: more settings by the name of a data set.
        data: the data sets that it is for; empty for all.
        without_base: whether nothing of the base is taken but how the data is read and whether its
            classes are used: everything else is a default.
        ema_lengths: lengths of averages, of which the best by samples of their own is measured.
    """

    name: str
    tries: str
    published: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_data: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    ema_lengths: tuple[float, ...] = ()
    without_base: bool = False

    def merged(self, base: Mapping[str, Any], data: str) -> dict[str, Any]:
        """Return the settings of a data set's base with those of this row."""
        if self.without_base:
            classes = {"class_conditional": base["model"]["class_conditional"]}
            read = {k: v for k, v in base["data"].items() if k not in _AUGMENTATIONS}
            base = {"data": read, "model": classes}
        return merge(merge(base, self.settings), self.by_data.get(data, {}))

    def digest(self, base: Mapping[str, Any], data: str) -> str:
        """Return what identifies how this row is trained on a data set."""
        content = [self.merged(base, data), self.ema_lengths]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested settings, those of ``above`` where both have one.

    A section of another ``kind`` replaces the one below: its options are others.
    """
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        kept = both and value.get("kind", inner.get("kind")) == inner.get("kind")
        merged[key] = merge(inner, value) if kept else copy.deepcopy(value)
    return merged


def row_names(folder: Path = ROWS) -> list[str]:
    """Return the names of all rows, the base first."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    return sorted(names, key=lambda name: name != BASE)


def read_row(name: str, folder: Path = ROWS) -> Row:
    """Read a row, or several joined by ``+`` as one; the later overrides the earlier.

    Raises:
        ValueError: no such row, or a file that is not one.
    """
    parts = name.split(TOGETHER)
    return _read(name, folder) if len(parts) == 1 else _joined(name, parts, folder)


def _read(name: str, folder: Path) -> Row:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        raise ValueError(
            f"there is no row {name!r}: use {', '.join(row_names(folder))}, or several joined by +"
        )
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict) or not {"tries", "published"} <= set(content) <= _KEYS:
        raise ValueError(
            f"{path} is not a row: give tries and published, and any of "
            f"{', '.join(sorted(_KEYS - {'tries', 'published'}))}"
        )
    if "together" in content:
        parts = _joined(name, content["together"], folder)
        content["settings"] = merge(parts.settings, content.get("settings") or {})
        content["by_data"] = merge(parts.by_data, content.get("by_data") or {})
        content.setdefault("ema_lengths", parts.ema_lengths)
        content.setdefault("data", parts.data)
        content.setdefault("without_base", parts.without_base)
    return Row(
        name,
        _line(content["tries"]),
        _line(content["published"]),
        content.get("settings") or {},
        content.get("by_data") or {},
        tuple(content.get("data") or ()),
        tuple(content.get("ema_lengths") or ()),
        bool(content.get("without_base")),
    )


def _joined(name: str, parts: Sequence[str], folder: Path) -> Row:
    rows = [_read(part, folder) for part in parts]
    settings: dict[str, Any] = {}
    by_data: dict[str, Any] = {}
    for row in rows:
        settings, by_data = merge(settings, row.settings), merge(by_data, row.by_data)
    limited = [set(row.data) for row in rows if row.data]
    return Row(
        name,
        f"{', '.join(parts[:-1])} and {parts[-1]} together",
        "each alone: see its row",
        settings,
        by_data,
        tuple(sorted(set.intersection(*limited))) if limited else (),
        next((row.ema_lengths for row in reversed(rows) if row.ema_lengths), ()),
        any(row.without_base for row in rows),
    )


def _line(text: str) -> str:
    return " ".join(str(text).split())
