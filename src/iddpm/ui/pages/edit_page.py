"""Editing: an item, a mask that is drawn, and its versions beside it."""

import asyncio
import io
import json
import secrets
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from iddpm.config.choices import MEASURED_SPACINGS, OPERATORS, RESTORATIONS, SAMPLERS, SPACINGS
from iddpm.ui.actions.action import Action
from iddpm.ui.actions.edit_actions import EditAction, InpaintAction, InterpolateAction
from iddpm.ui.actions.restore_action import RestoreAction
from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.item_values import values_response
from iddpm.ui.pages.item_routes import sound_of
from iddpm.ui.pages.queue_page import commands_part, queued
from iddpm.ui.pages.sample_page import drawing_runs
from iddpm.ui.run_index import stamp
from iddpm.ui.sample_sets import kind_of
from iddpm.ui.uploads import UPLOAD

if TYPE_CHECKING:
    from torch import Tensor

router = APIRouter()
Name = Annotated[str, Query(max_length=1_000)]
SAMPLES = "samples/"
"""What stands before the names of items that were drawn."""
KINDS: dict[str, type[Action]] = {
    action.kind: action for action in (InpaintAction, EditAction, InterpolateAction, RestoreAction)
}


@router.get("/edit")
def show(
    request: Request,
    run: Annotated[str | None, Query(max_length=1_000)] = None,
    item: Name = "0",
    tiled: bool = False,
) -> HTMLResponse:
    """Show an item and the forms; ``tiled`` shows a file at its own size."""
    hub = hub_of(request)
    names = [name for name in drawing_runs(hub) if not hub.index.facts(name).unedited]
    chosen = run if run is not None else (names[0] if names else None)
    if chosen is None:
        return hub.render.page(request, "sample_none.html", page="edit")
    facts = hub.index.facts(chosen)
    if facts.config is None:
        raise ValueError(facts.why)
    config = facts.config
    return hub.render.page(
        request,
        "edit.html",
        run=facts,
        names=names,
        item=item,
        tiled=tiled,
        samplers=SAMPLERS,
        spacings=("auto", *SPACINGS, *MEASURED_SPACINGS),
        kind=kind_of(config),
        shape=config.model.shape,
        classes=config.class_names if config.model.class_conditional else (),
        most_steps=config.diffusion.num_steps,
        action=InpaintAction.kind,
        operators=OPERATORS,
        methods=RESTORATIONS,
    )


def find_item(hub: Hub, run: Path, text: str) -> str:
    """Return an item as the command line takes it: a number, or a file that is ours.

    Raises:
        UnknownNameError: it is neither, or lies elsewhere.
    """
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return text
    if text.startswith(UPLOAD):
        return str(hub.uploads.path(text.removeprefix(UPLOAD)))
    if text.startswith(SAMPLES):
        return str(confined(run, text))
    raise UnknownNameError("an item is a number, a sample, or a file that was dropped here")


@lru_cache(maxsize=8)
def _read(run: Path, item: str, version: tuple[int, int], tiled: bool) -> "Tensor":
    from iddpm.runs.run import Run
    from iddpm.tasks.drawn_items import open_whole
    from iddpm.tasks.edit import open_item

    opened = Run(run, device="cpu")
    return open_whole(opened, item).read(0, 1)[0] if tiled else open_item(opened, item).x


def read_item_of(request: Request, run: str, item: str, tiled: bool = False) -> "Tensor":
    """Return an item of a run's shape, or of its own, [C, *spatial] in [-1, 1]."""
    hub = hub_of(request)
    path = hub.index.path(run)
    found = find_item(hub, path, item)
    return _read(path, found, stamp(Path(found)), tiled)


@router.get("/edit/picture")
def picture(request: Request, run: Name, item: Name) -> Response:
    """Return a picture of an item."""
    from iddpm.data.writers.image_files import grid_picture

    config = hub_of(request).index.facts(run).config
    x = read_item_of(request, run, item)
    film = config is not None and kind_of(config) == "clip"
    file = io.BytesIO()
    grid_picture(x[None], film=film).save(file, "PNG", compress_level=1)
    return Response(file.getvalue(), media_type="image/png")


@router.get("/edit/sound")
def sound(request: Request, run: Name, item: Name) -> Response:
    """Return an item as a sound."""
    return sound_of(read_item_of(request, run, item), hub_of(request).index.facts(run))


@router.get("/edit/values")
def values(request: Request, run: Name, item: Name, tiled: bool = False) -> Response:
    """Return the values of an item: JSON of a signal, else uint8 [C, ..., H, W]."""
    return values_response(read_item_of(request, run, item, tiled))


async def read_action(request: Request, hub: Hub, *, drawn: bool = True) -> Action:
    """Read the form; items and masks become files that are ours.

    ``drawn`` says that there is a mask; else a name stands for it.
    """
    fields: dict[str, Any] = dict(await fields_of(request))
    kind = KINDS.get(fields.pop("kind", ""))
    if kind is None:
        raise ValueError(f"unknown action: use {', '.join(KINDS)}")
    run = hub.index.path(fields.get("run", ""))
    for name in ("item", "other", "mask"):
        if fields.get(name):
            fields[name] = await asyncio.to_thread(find_item, hub, run, fields[name])
    if not drawn and not fields.get("mask"):
        fields["mask"] = "mask.npy"
    if kind is RestoreAction:  # which overwrites nothing
        folder = secrets.token_hex(4) if drawn else "NAME"
        fields["out"] = str(run / "restored" / folder)
    taken = {name: value for name, value in fields.items() if name in kind.model_fields}
    return kind.read(taken)


@router.post("/edit")
async def edit(request: Request) -> HTMLResponse:
    """Put an edit into the queue."""
    return await queued(request, await read_action(request, hub_of(request)))


@router.post("/edit/commands")
async def commands(request: Request) -> HTMLResponse:
    """Return the commands that do what the form says."""
    return commands_part(request, await read_action(request, hub_of(request), drawn=False))


@router.put("/upload")
async def upload(request: Request, name: Name, into: Name = "") -> Response:
    """Take a file, and return its name here."""
    length = request.headers.get("content-length", "")
    size = int(length) if length.isdecimal() and len(length) < 20 else None
    stream = (part async for part in request.stream() if part)
    found = await hub_of(request).uploads.receive(name, size, stream, into)
    return Response(json.dumps({"name": UPLOAD + found}), media_type="application/json")
