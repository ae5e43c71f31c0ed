"""Training: data, what is known of it, the settings, and a process of its own."""

import re
import shlex
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from iddpm.config import read_config
from iddpm.config.run_config import CONFIG
from iddpm.ui.actions.look_action import LookAction, data_word
from iddpm.ui.actions.sample_action import SIMPLE_NAME
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.languages import setting_helps
from iddpm.ui.pages.edit_page import Name
from iddpm.ui.pages.queue_page import queued
from iddpm.ui.render import address, language_of
from iddpm.ui.setting_fields import setting_fields, whole_fields
from iddpm.ui.training_processes import OUTPUT, last_line
from iddpm.ui.uploads import UPLOAD

router = APIRouter()
FIRST = (
    "data.image_size",
    "model.class_conditional",
    "model.model_channels",
    "training.steps",
    "training.batch_size",
    "training.learning_rate",
)
"""Settings that stand above the others."""
SETTING = "set:"
"""What stands before the name of a setting in a field."""


@router.get("/train")
def show(request: Request, data: Name = "", name: Name = "") -> HTMLResponse:
    """Show the form."""
    fields = {field.name: field for section in setting_fields().values() for field in section}
    first = [*whole_fields(), *(fields[name] for name in FIRST)]
    return hub_of(request).render.page(
        request,
        "train.html",
        data=data,
        name=name,
        first=first,
        sections=setting_fields(),
        helps=setting_helps(language_of(request)),
    )


async def read_form(request: Request, hub: Hub) -> tuple[str, str, list[str]]:
    """Return the data, the name of the run and the settings, checked."""
    fields = await fields_of(request)
    data = fields.get("data", "").strip()
    if not data:
        raise ValueError("data is missing: give its path, or drop a file")
    if data.startswith(UPLOAD):
        data = str(hub.uploads.path(data.removeprefix(UPLOAD), folder=True))
    settings = [
        f"{field.removeprefix(SETTING)}={value.strip()}"
        for field, value in fields.items()
        if field.startswith(SETTING) and value.strip()
    ]
    settings += [line.strip() for line in fields.get("more", "").splitlines() if line.strip()]
    read_config(None, settings)  # an unknown or wrong one is named at once
    return data, fields.get("name", "").strip(), settings


@router.post("/train/look")
async def look(request: Request) -> HTMLResponse:
    """Put a look at the data into the queue."""
    hub = hub_of(request)
    data, _, settings = await read_form(request, hub)
    out = hub.uploads.new_folder() / "data.png"
    action = LookAction(path=data, settings=tuple(settings), out=str(out))
    return await queued(request, action)


@router.post("/train/commands")
async def commands(request: Request) -> HTMLResponse:
    """Return the commands that do what the form says."""
    hub = hub_of(request)
    data, name, settings = await read_form(request, hub)
    out = hub.shown / (name or "NAME")
    words = training_words(data, settings, str(out))
    python = f"import iddpm\n\niddpm.train({data!r}, settings={settings!r}, out={str(out)!r})"
    command = shlex.join(["iddpm", *words])
    return hub.render.page(request, "commands.html", command=command, python=python)


def training_words(data: str, settings: list[str], out: str) -> list[str]:
    """Return the words of the command line after ``iddpm``."""
    assigned = [word for setting in settings for word in ("-s", setting)]
    return ["train", *data_word(data), *assigned, "--out", out]


@router.post("/train")
async def train(request: Request) -> Response:
    """Start a training."""
    hub = hub_of(request)
    data, name, settings = await read_form(request, hub)
    if not re.match(SIMPLE_NAME, name):
        raise ValueError(f"name={name[:80]!r} does not work: use letters, digits, _, - and .")
    out = hub.index.root / name
    if out.is_symlink() or (out / CONFIG).exists():
        raise ValueError(f"{name} is there already: give another name")
    hub.uploads.keep(Path(data))
    hub.trainings.start(out, training_words(data, settings, str(out)))
    there = address("/train/started", name=name)
    if "hx-request" in request.headers:  # a mistake would have been shown beside the form
        return Response(headers={"HX-Redirect": there})
    return RedirectResponse(there, 303)


@router.get("/train/started")
def started(request: Request, name: str = Query(pattern=SIMPLE_NAME)) -> Response:
    """Wait until the run is there, and then go to it."""
    hub = hub_of(request)
    path, there = hub.index.root / name, address("/run", run=name)
    if (path / CONFIG).is_file():
        if "hx-request" in request.headers:
            return Response(headers={"HX-Redirect": there})
        return RedirectResponse(there, 303)
    values: dict[str, Any] = {
        "name": name,
        "going": hub.trainings.is_starting(path),
        "line": "" if path.is_symlink() else last_line(path / OUTPUT),
    }
    part = "train_wait.html" if "hx-request" in request.headers else "train_started.html"
    return hub.render.page(request, part, **values)
