"""Settings that are assigned on a command line."""

import re
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

import yaml
from pydantic import BaseModel

from iddpm.config.validation_message import shortened
from iddpm.config.yaml_text import DEEPEST, parse_yaml

_NOTHING = ("", "~", "null", "Null", "NULL")
"""What YAML reads as no value."""


def parse_assignment(assignment: str, settings: type[BaseModel]) -> dict[str, Any]:
    """Return ``a.b=value`` as a nested mapping; ValueError where it is none of the settings."""
    key, equals, text = assignment.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(part.strip() for part in parts):
        raise ValueError(
            f"{shortened(assignment)!r} is not a setting: write key=value, such as "
            "training.steps=1000"
        )
    if len(parts) > DEEPEST:
        raise ValueError(
            f"{shortened(key)!r} is not a setting: no name has more than {DEEPEST} parts"
        )
    value: Any
    quoted = re.match(r"""\s*["'].*["']\s*$""", text)
    if _is_text([part.strip() for part in parts], settings) and not quoted:
        # Brackets, colons and numbers are part of a path, a name or a pattern.
        value = None if text.strip() in _NOTHING else text.strip()
    else:
        value = _yaml_value(key, text)
    for part in reversed(parts):
        value = {part: value}
    return dict(value)


def _yaml_value(key: str, text: str) -> Any:
    try:
        return parse_yaml(text)
    except yaml.MarkedYAMLError:  # text that is no YAML, such as a path with a colon
        return text
    except (yaml.YAMLError, ValueError) as error:
        reason = shortened(" ".join(str(error).split()))
        raise ValueError(f"{shortened(key)}={shortened(text)} does not work: {reason}") from None


def _is_text(parts: Sequence[str], settings: type[BaseModel]) -> bool:
    """Say whether a setting takes text and nothing else, but for null."""
    section: Any = settings
    for part in parts[:-1]:
        field = section.model_fields.get(part)
        section = field.annotation if field is not None else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return False
    field = section.model_fields.get(parts[-1])
    if field is None:
        return False
    choices = get_args(field.annotation) or (field.annotation,)
    plain = {get_args(c)[0] if get_origin(c) is Annotated else c for c in choices}
    return plain - {type(None)} == {str}
