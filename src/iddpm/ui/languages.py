"""The words of the pages: one catalog for each language, with the same keys."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CATALOGS = Path(__file__).parent / "catalogs"
SETTINGS = CATALOGS / "settings"
"""What settings do, by their names; what a language has not is shown in English."""
LANGUAGES: Mapping[str, str] = {"en": "English", "zh": "中文"}
"""Each has the file ``catalogs/CODE.json``; the first is taken where a browser wants another."""
_WORDS: dict[str, dict[str, str]] = {}


def catalog(language: str) -> dict[str, str]:
    """Return all words of a language by key."""
    if language not in _WORDS:
        text = (CATALOGS / f"{language}.json").read_text(encoding="utf-8")
        _WORDS[language] = json.loads(text)
    return _WORDS[language]


def translate(language: str, key: str, **values: Any) -> str:
    """Return the words of a key, with ``{name}`` replaced by values.

    Raises:
        KeyError: no such key; a fault of the caller.
    """
    text = catalog(language)[key]
    return text.format_map(values) if values else text


@cache
def setting_helps(language: str) -> Mapping[str, str]:
    """Return what settings do in a language; of English nothing, which the settings say."""
    path = SETTINGS / f"{language}.json"
    helps: dict[str, str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return helps


def choose_language(chosen: str | None, accepted: str) -> str:
    """Return the language of a page.

    Args:
        chosen: what the cookie says.
        accepted: the header ``Accept-Language``.
    """
    if chosen in LANGUAGES:
        return str(chosen)
    wanted = [part.partition(";")[0].strip().lower() for part in accepted.split(",")]
    for code in wanted:
        if code.partition("-")[0] in LANGUAGES:
            return code.partition("-")[0]
    return next(iter(LANGUAGES))
