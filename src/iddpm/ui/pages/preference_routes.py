"""The language and the colors of the pages, kept in cookies."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import RedirectResponse

from iddpm.ui.hub import fields_of
from iddpm.ui.languages import LANGUAGES
from iddpm.ui.render import LANGUAGE_COOKIE, THEME_COOKIE, THEMES

router = APIRouter()
YEAR = 365 * 24 * 3600


@router.post("/preferences")
async def choose(request: Request) -> RedirectResponse:
    """Keep a language or a theme, and go back to the page."""
    fields = await fields_of(request)
    back = fields.get("back", "/")
    if not back.startswith("/") or back[1:2] in ("/", "\\"):  # another host
        back = "/"
    answer = RedirectResponse(back, 303)
    choices = ((LANGUAGE_COOKIE, "language", LANGUAGES), (THEME_COOKIE, "theme", THEMES))
    for cookie, field, known in choices:
        if field in fields:
            if fields[field] not in known:
                raise ValueError(f"{field} is unknown: use {', '.join(known)}")
            answer.set_cookie(cookie, fields[field], max_age=YEAR, samesite="strict", httponly=True)
    return answer
