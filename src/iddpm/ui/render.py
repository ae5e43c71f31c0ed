"""Templates to pages: words in the reader's language, and numbers as people read them."""

import math
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse

from iddpm import __version__
from iddpm.runtime.console import printable
from iddpm.training.monitoring.terminal import format_seconds
from iddpm.ui.languages import LANGUAGES, choose_language, translate

TEMPLATES = Path(__file__).parent / "templates"
THEMES = ("auto", "light", "dark")
LANGUAGE_COOKIE, THEME_COOKIE = "iddpm_language", "iddpm_theme"
SPARK = (120, 32)
"""Width and height of the small curves."""


def address(path: str, /, **values: Any) -> str:
    """Return a path with parameters, those that are None left out."""
    given = {name: str(value) for name, value in values.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


def number(value: float | None, digits: int = 4) -> str:
    """Return a number with this many significant digits; a dash for None."""
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or 1e-4 <= abs(value) < 10**6:
        text = f"{value:.{digits}g}"
        return text if "e" not in text else f"{value:.0f}"
    return f"{value:.{digits - 1}e}"


def spark_points(values: list[float]) -> str:
    """Return the points of a small curve for SVG, scaled to its height."""
    known = [v for v in values if math.isfinite(v)]
    if len(known) < 2:
        return ""
    width, height = SPARK
    low, high = min(known), max(known)
    span = (high - low) or 1.0
    across = (width - 2) / (len(known) - 1)
    return " ".join(
        f"{1 + k * across:.1f},{1 + (height - 2) * (1 - (v - low) / span):.1f}"
        for k, v in enumerate(known)
    )


def language_of(request: Request) -> str:
    """Return the language of a request."""
    accepted = request.headers.get("accept-language", "")
    return choose_language(request.cookies.get(LANGUAGE_COOKIE), accepted)


def theme_of(request: Request) -> str:
    """Return ``light``, ``dark``, or ``auto`` for what the system has."""
    theme = request.cookies.get(THEME_COOKIE, "auto")
    return theme if theme in THEMES else "auto"


class Renderer:
    """Fills templates; values are escaped."""

    def __init__(self, shared: dict[str, Any]) -> None:
        self._templates = Environment(
            loader=FileSystemLoader(TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {
            "duration": format_seconds,
            "number": number,
            "spark": spark_points,
            "printable": lambda value: printable(str(value)),
        }
        self._templates.globals |= {
            "address": address,
            "version": __version__,
            "languages": LANGUAGES,
            "themes": THEMES,
            **shared,
        }

    def text(self, request: Request, template: str, **values: Any) -> str:
        """Return a filled template."""
        language = language_of(request)
        back = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return self._templates.get_template(template).render(
            t=partial(translate, language),
            language=language,
            theme=theme_of(request),
            here=request.url.path,
            back=back,
            **values,
        )

    def page(
        self, request: Request, template: str, *, status: int = 200, **values: Any
    ) -> HTMLResponse:
        """Return a filled template as an answer."""
        return HTMLResponse(self.text(request, template, **values), status)
