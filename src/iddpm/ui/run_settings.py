"""The settings of a run beside the defaults."""

import json
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

from iddpm.config import Config, ResolvedConfig


class SettingRow(NamedTuple):
    """One setting.

    Attributes:
        name: dotted.
        value: of the run, as YAML or JSON would have it.
        default: the same; empty where it is the value.
        differs: whether it is not the default.
    """

    name: str
    value: str
    default: str
    differs: bool


def settings_rows(config: ResolvedConfig) -> list[SettingRow]:
    """Return all settings by name; lists of names are shortened."""
    fresh, rows = _defaults(), []
    for name, value in leaves(config.model_dump(mode="json")).items():
        default = fresh.get(name)
        differs = value != default
        rows.append(SettingRow(name, _shown(value), _shown(default) if differs else "", differs))
    return rows


@cache
def _defaults() -> dict[str, Any]:
    return leaves(Config().model_dump(mode="json"))


def leaves(values: dict[str, Any] | BaseModel, prefix: str = "") -> dict[str, Any]:
    """Return nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in dict(values).items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _shown(value: Any, longest: int = 200) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= longest else text[:longest] + "…"
