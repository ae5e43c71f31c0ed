"""Every setting as a field of a form, made from the schema that validates them."""

import ast
import inspect
import textwrap
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel

from iddpm.config import Config

SECTIONS = ("data", "model", "diffusion", "degradation", "training", "sampling")
WHOLE = ("preset", "task", "scale")
"""Settings outside the sections that a new training takes."""
SEPARATE = frozenset(("data.path", "model.network"))
"""Settings with a place of their own, or that only Python can give."""


class SettingField(NamedTuple):
    """One setting.

    Attributes:
        name: dotted.
        default: as text; empty for None.
        choices: the only values that it takes; empty where there are others.
        help: what its documentation says.
    """

    name: str
    default: str
    choices: tuple[str, ...]
    help: str


@cache
def whole_fields() -> list[SettingField]:
    """Return the settings outside the sections."""
    facts, notes = Config.model_json_schema()["properties"], _notes(Config)
    return [
        SettingField(
            name,
            shown(Config.model_fields[name].default),
            _choices(facts[name]),
            notes.get(name, ""),
        )
        for name in WHOLE
    ]


@cache
def setting_fields() -> dict[str, list[SettingField]]:
    """Return the settings of each section, in their order."""
    schema = Config.model_json_schema()
    found = {}
    for section in SECTIONS:
        model = Config.model_fields[section].annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        facts, notes = _properties(schema, section), _notes(model)
        found[section] = [
            SettingField(
                f"{section}.{name}",
                shown(model.model_fields[name].default),
                _choices(facts.get(name, {})),
                notes.get(name, ""),
            )
            for name in model.model_fields
            if f"{section}.{name}" not in SEPARATE
        ]
    return found


def _properties(schema: dict[str, Any], section: str) -> dict[str, Any]:
    where = schema["properties"][section]
    reference = where.get("$ref") or where["allOf"][0]["$ref"]
    facts: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]]["properties"]
    return facts


def _choices(facts: dict[str, Any]) -> tuple[str, ...]:
    """Return the values of a setting that has few; None is the empty field."""
    options = facts.get("anyOf", [facts])
    choices: list[str] = []
    for option in options:
        if option.get("type") == "null":
            continue
        if option.get("type") == "boolean":
            choices += ["true", "false"]
        elif "enum" in option or "const" in option:
            choices += [str(value) for value in option.get("enum", [option.get("const")])]
        else:
            return ()
    return tuple(choices)


def _notes(model: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field of a section, from its source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)
    notes, name = {}, ""
    for line in definition.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            name = line.target.id
        elif isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and name:
            notes[name] = " ".join(str(line.value.value).replace("``", "").split())
            name = ""
        else:
            name = ""
    return notes


def values_by_name(config: Config) -> dict[str, Any]:
    """Return the values of the settings that have a field."""
    fields = {field.name for section in setting_fields().values() for field in section}
    return {
        f"{section}.{name}": value
        for section in SECTIONS
        for name, value in getattr(config, section)
        if f"{section}.{name}" in fields
    }


def shown(value: Any) -> str:
    """Return a value as it is written behind the name of its setting; nothing for None."""
    if value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
