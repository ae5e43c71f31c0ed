"""The reference of the settings, from their schema."""

import ast
import inspect
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from iddpm.config import choices
from iddpm.config.choices import OneOf
from iddpm.config.presets import PRESETS
from iddpm.config.settings import Config

HEAD = """# Settings

Settings are written in a YAML file (`iddpm train DATA -c settings.yaml`) or one by one
(`-s training.batch_size=32`, also `settings=["training.batch_size=32"]` in Python). Unknown names
and values out of bounds raise an error. A run stores all of them in `config.yaml`;
`iddpm info RUN --settings` prints them. Where no default is given, the setting is off, or follows
from the data and is then written down.

Which values to choose, with measurements: [choosing](../choosing.md).
"""
NUMBERS = {int: "whole number", float: "number", bool: "true or false", str: "text", Path: "path"}
TABLES = {
    "Samplers (`sampling.sampler`)": choices.SAMPLERS,
    "Spacings of timesteps (`sampling.spacing`)": {**choices.SPACINGS, **choices.MEASURED_SPACINGS},
    "Schedules (`diffusion.schedule`)": choices.SCHEDULES,
    "Predictions (`diffusion.predicts`)": choices.PREDICTIONS,
    "Timestep samplers (`training.timestep_sampler`)": choices.TIMESTEP_SAMPLERS,
    "Optimizers (`training.optimizer`)": choices.OPTIMIZERS,
    "Distillation methods (`distillation.method`)": choices.DISTILLATIONS,
}


class Setting(NamedTuple):
    """One setting: its full name, what it takes, its default and its description."""

    name: str
    value: str
    default: str
    text: str


def settings() -> list[Setting]:
    """Return all settings; those that several kinds of a section have stand once."""
    found: dict[str, Setting] = {}
    for setting in _settings(Config, ""):
        found.setdefault(setting.name, setting)
    return list(found.values())


def _settings(section: type[BaseModel], prefix: str) -> Iterator[Setting]:
    """Yield all settings, those of nested sections after the setting that holds them."""
    texts = descriptions(section)
    for name, field in section.model_fields.items():
        full = f"{prefix}{name}"
        inner = sections(field.annotation)
        value = _words(field.annotation, field.metadata)
        text = texts.get(name, "")
        if name == "kind" and prefix and get_origin(field.annotation) is Literal and not text:
            continue  # the setting above lists the kinds
        if not inner or text or len(inner) > 1:
            yield Setting(full, value, _default(field), text or _summary(inner))
        for one in inner:
            each = "NAME." if "dict[" in str(field.annotation) else ""
            for setting in _settings(one, f"{full}.{each}"):
                first = setting.name.removeprefix(f"{full}.").partition(".")[0]
                having = [other for other in inner if first in other.model_fields]
                kinds = " and ".join(f"`{_kind(other)}`" for other in having if having != inner)
                of = f"With {kinds}: " if kinds else ""
                yield setting._replace(text=of + setting.text)


def sections(annotation: Any) -> list[type[BaseModel]]:
    """Return the sections that a setting may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in sections(part)]


def descriptions(section: type[BaseModel]) -> dict[str, str]:
    """Return the text below each field in the source."""
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        if not issubclass(cls, BaseModel) or cls is BaseModel:
            continue
        body = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _kind(section: type[BaseModel]) -> str:
    return str(section.model_fields["kind"].default)


def _summary(inner: Sequence[type[BaseModel]]) -> str:
    return " ".join(
        f"`{_kind(one)}`: {inspect.getdoc(one).splitlines()[0]}"  # type: ignore[union-attr]
        for one in inner
        if "kind" in one.model_fields and inspect.getdoc(one)
    )


def _words(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """Return what a setting takes, in words."""
    for mark in metadata:
        if isinstance(mark, OneOf):
            return ", ".join(f"`{name}`" for name in mark.names)
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [
            mark for m in parts[1:] for mark in (m.metadata if isinstance(m, FieldInfo) else [m])
        ]
        return _words(parts[0], [*metadata, *inner])
    if origin in (Union, types.UnionType):
        words = [_words(part) for part in parts if part is not type(None)]
        return " or ".join(dict.fromkeys(word for word in words if word))
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts)
    if origin is tuple:
        if parts[-1] is Ellipsis:
            return f"list of: {_words(parts[0])}"
        return f"[{', '.join(_words(part) for part in parts)}]"
    if origin is dict:
        return "sections by name"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        kind = annotation.model_fields.get("kind")
        named = kind is not None and get_origin(kind.annotation) is Literal and kind.default
        return f"`{named}`" if named else "section"
    return NUMBERS[annotation] + _bounds(metadata)


def _bounds(metadata: Sequence[Any]) -> str:
    limits = (("gt", "above"), ("ge", "from"), ("lt", "below"), ("le", "to"))
    words = [
        f"{word} {_number(getattr(mark, name))}"
        for name, word in limits
        for mark in metadata
        if getattr(mark, name, None) is not None
    ]
    return " " + " ".join(words) if words else ""


def _number(value: float) -> str:
    if isinstance(value, int) and abs(value) < 10**7:
        return f"{value:,}"
    return f"{value:g}"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or field.is_required():
        return "required" if field.is_required() else ""
    if isinstance(value, BaseModel):
        kind = getattr(value, "kind", None)
        named = (
            get_origin(type(value).model_fields["kind"].annotation) is Literal if kind else False
        )
        return f"`{kind}`" if named else ""
    if isinstance(value, tuple):
        return f"`{yaml.safe_dump(_lists(value), default_flow_style=True).strip()}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{_number(value) if isinstance(value, int) else value}`"


def _lists(value: Any) -> Any:
    return [_lists(part) for part in value] if isinstance(value, tuple) else value


def _cell(text: str) -> str:
    """Return a description as the cell of a table, with links to the pages that it names."""
    text = text.replace("``", "`").replace("|", "\\|")
    text = text.replace("[", "\\[").replace("*", "\\*").replace("_", "\\_")
    text = re.sub(r"`[^`]*`", lambda code: code[0].replace("\\", ""), text)
    text = re.sub(r"docs/([\w\\]+)\.md", r"[\1](../\1.md)", text)
    text = re.sub(r"benchmarks/([\w\\]+)\.md", r"[\1](../benchmarks/\1.md)", text)
    return re.sub(r"(?<=\]\()[^)]*", lambda link: link[0].replace("\\", ""), text)


def settings_page() -> str:
    """Return the page as Markdown."""
    lines = [HEAD]
    groups: dict[str, list[Setting]] = {}
    for setting in settings():
        first, dot, _ = setting.name.partition(".")
        groups.setdefault(first if dot or sections_named(first) else "", []).append(setting)
    for group, rows in groups.items():
        title, text = (f"`{group}`", _doc(group)) if group else ("The run", "")
        lines += ["", f"## {title}", "", text, "", "| setting | value | default | meaning |"]
        lines += ["|---|---|---|---|"]
        lines += [f"| `{s.name}` | {s.value} | {s.default} | {_cell(s.text)} |" for s in rows]
    lines += ["", "## Choices by name", ""]
    for title, table in TABLES.items():
        lines += [f"### {title}", "", "| name | |", "|---|---|"]
        lines += [
            f"| `{name}` | {_cell(getattr(row, 'help', row))} |" for name, row in table.items()
        ]
        lines.append("")
    lines += ["### Presets (`preset`)", ""]
    for name, values in PRESETS.items():
        text = yaml.safe_dump(dict(values), sort_keys=False).strip()
        lines += [f"`preset={name}` stands for", "", "```yaml", text, "```", ""]
    return "\n".join([*lines, ""])


def sections_named(name: str) -> bool:
    """Say whether a setting of the run is a section of its own."""
    return bool(sections(Config.model_fields[name].annotation))


def _doc(name: str) -> str:
    cls = sections(Config.model_fields[name].annotation)[0]
    return " ".join((inspect.getdoc(cls) or "").replace("``", "`").split())
