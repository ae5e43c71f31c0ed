"""Upscaling: a file of one's own, and what a super-resolution run makes of it."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from iddpm.config.choices import MEASURED_SPACINGS, SAMPLERS, SPACINGS
from iddpm.ui.actions.upscale_action import UpscaleAction
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.pages.queue_page import commands_part, queued
from iddpm.ui.pages.sample_page import drawing_runs
from iddpm.ui.uploads import UPLOAD

router = APIRouter()


@router.get("/upscale")
def show(
    request: Request, run: Annotated[str | None, Query(max_length=1_000)] = None
) -> HTMLResponse:
    """Show the form."""
    hub = hub_of(request)
    names = [name for name in drawing_runs(hub) if _upscales(hub, name)]
    chosen = run if run is not None else (names[0] if names else None)
    if chosen is None:
        return hub.render.page(request, "upscale_none.html")
    facts = hub.index.facts(chosen)
    if facts.config is None:
        raise ValueError(facts.why)
    times = facts.config.scale
    scale = times if isinstance(times, tuple) else (times,)
    classes = facts.config.class_names if facts.config.model.class_conditional else ()
    return hub.render.page(
        request,
        "upscale.html",
        run=facts,
        names=names,
        classes=classes,
        scale=" x ".join(map(str, scale)),
        degradation=facts.config.degradation,
        steps=facts.config.sampling.steps,
        samplers=SAMPLERS,
        spacings=("auto", *SPACINGS, *MEASURED_SPACINGS),
        noise=facts.config.degradation.augment,
    )


def _upscales(hub: Hub, name: str) -> bool:
    config = hub.index.facts(name).config
    return config is not None and config.task == "super_resolution"


@router.post("/upscale")
async def upscale(request: Request) -> HTMLResponse:
    """Put an upscaling into the queue."""
    return await queued(request, read_action(hub_of(request), dict(await fields_of(request))))


def read_action(hub: Hub, fields: dict[str, Any]) -> UpscaleAction:
    """Read the form; the file becomes one that is ours, and other settings another folder."""
    run, sent = hub.index.path(fields.get("run", "")), fields.get("file", "")
    if not sent.startswith(UPLOAD):
        raise ValueError("file is missing: drop one, or choose it")
    file = hub.uploads.path(sent.removeprefix(UPLOAD))
    action = UpscaleAction.read(fields | {"file": str(file), "out": "-"})
    folder = hashlib.sha256(action.model_dump_json().encode()).hexdigest()[:16]
    return action.model_copy(update={"out": str(run / "upscaled" / folder)})


@router.post("/upscale/commands")
async def commands(request: Request) -> HTMLResponse:
    """Return the commands that do what the form says."""
    hub, fields = hub_of(request), dict(await fields_of(request))
    path = hub.command_path(fields.get("run", ""))
    if fields.get("file"):
        action = read_action(hub, fields)
    else:
        hub.index.path(fields.get("run", ""))
        files = {"file": "photo.png", "out": str(path / "upscaled")}
        action = UpscaleAction.read(fields | files)
    return commands_part(request, action)
