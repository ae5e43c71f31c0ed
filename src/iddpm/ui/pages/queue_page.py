"""The queue of jobs, and one job with its progress and its results."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from iddpm.config import ResolvedConfig
from iddpm.ui.actions.action import Action
from iddpm.ui.actions.nearest_action import NearestAction
from iddpm.ui.actions.upscale_action import UpscaleAction
from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.item_values import values_response
from iddpm.ui.job_queue import Job
from iddpm.ui.measurements import read_nearest
from iddpm.ui.sample_sets import SHOWN, has_items, item_file, kind_of, read_set

if TYPE_CHECKING:
    from torch import Tensor

router = APIRouter()
MOST_PICTURES = 8
SHOWN_KINDS = ("look", "inspect", "upscale", "likelihood", "restore", "nearest", "compare_data")
"""Jobs whose pictures are shown as they are; those of others are sets of samples."""
Number = Annotated[int, Query(ge=1, le=10**9)]


@router.get("/queue")
def queue(request: Request) -> HTMLResponse:
    """Show all jobs."""
    hub = hub_of(request)
    return hub.render.page(request, "queue.html", jobs=[job_values(hub, j) for j in hub.jobs.all()])


@router.get("/queue/rows")
def rows(request: Request) -> HTMLResponse:
    """Return the jobs alone, for an open page."""
    hub = hub_of(request)
    jobs = [job_values(hub, job) for job in hub.jobs.all()]
    return hub.render.page(request, "queue_rows.html", jobs=jobs)


@router.get("/job")
def show_job(request: Request, number: Number) -> HTMLResponse:
    """Return the part of a page that shows a job."""
    hub = hub_of(request)
    return job_part(request, hub, job_of(hub, number))


@router.get("/job/picture")
def picture(request: Request, number: Number) -> Response:
    """Return the newest picture of samples on their way."""
    job = job_of(hub_of(request), number)
    if not job.picture:
        raise UnknownNameError("there is no picture yet")
    return Response(job.picture, media_type="image/png")


@router.get("/job/file")
def show_file(request: Request, number: Number, place: Annotated[int, Query(ge=0)]) -> Response:
    """Return a picture that a job has made."""
    hub = hub_of(request)
    files = job_of(hub, number).files
    if place >= len(files) or files[place].suffix != ".png":
        raise UnknownNameError("there is no such picture")
    path = confined(hub.index.root, files[place].relative_to(hub.index.root).as_posix())
    return FileResponse(path, media_type="image/png")


@router.get("/job/values")
def show_values(request: Request, number: Number, before: bool = False) -> Response:
    """Return the first item of a file that was upscaled, or of what became of it."""
    hub = hub_of(request)
    job = job_of(hub, number)
    if not is_compared(job):
        raise UnknownNameError("this job has upscaled nothing")
    assert isinstance(job.action, UpscaleAction)
    path = Path(job.action.file) if before else job.files[0]
    path = confined(hub.index.root, path.resolve().relative_to(hub.index.root).as_posix())
    if job.files[0].suffix == ".png":
        return _picture_response(path)
    config = hub.index.facts(job.action.run).config
    if config is None:
        raise UnknownNameError("the run is gone")
    return values_response(_read_side(config, path, before))


def _read_side(config: ResolvedConfig, path: Path, before: bool) -> "Tensor":
    """Return the first item of an upscaled file, or of the low resolution that it was made of."""
    from iddpm.builders import form_of
    from iddpm.builders.low_resolution import scale_of
    from iddpm.data.upscaling.find import open_low_res
    from iddpm.data.upscaling.low_res import Target

    scale = scale_of(config)
    scale = scale if before else (1,) * len(scale)
    form, labels = form_of(config), config.data.labels
    target = Target(config.model.channels, scale, form, labels, bounded=False)  # as drawn
    (opened,) = open_low_res([path], target).values()
    return opened.read(0, 1)[0]


def _picture_response(path: Path) -> Response:
    """Return the levels of a picture, [3, H, W] or [1, H, W] of one of 16 bits."""
    from iddpm.data.sources.picture import load_picture

    image, depth = load_picture(path)
    levels = np.asarray(image if depth == 16 else image.convert("RGB"))
    if depth == 16:
        levels = (levels >> 8).astype(np.uint8)[..., None]
    levels = np.ascontiguousarray(np.moveaxis(levels, -1, 0))
    headers = {"X-Shape": ",".join(map(str, levels.shape))}
    return Response(levels.tobytes(), media_type="application/octet-stream", headers=headers)


def is_compared(job: Job) -> bool:
    """Say whether a job has upscaled a file, which is then shown beside the result."""
    return isinstance(job.action, UpscaleAction) and job.state == "done" and bool(job.files)


@router.post("/job/cancel")
async def cancel(request: Request) -> Response:
    """Take a job out of the queue, or end it."""
    hub, fields = hub_of(request), await fields_of(request)
    number = fields.get("number", "")
    job = job_of(hub, int(number) if number.isdecimal() and len(number) < 10 else 0)
    hub.jobs.cancel(job)
    if "hx-request" in request.headers:
        return job_part(request, hub, job)
    return RedirectResponse("/queue", 303)


def job_of(hub: Hub, number: int) -> Job:
    """Return a job by its number; UnknownNameError for none."""
    job = hub.jobs.get(number)
    if job is None:
        raise UnknownNameError(f"there is no job {number}")
    return job


async def queued(request: Request, action: Action) -> HTMLResponse:
    """Put an action into the queue, and return its job as a part of a page."""
    hub = hub_of(request)
    path = hub.index.path(action.run) if action.run else hub.index.root
    return job_part(request, hub, await asyncio.to_thread(hub.jobs.add, action, path))


def commands_part(request: Request, action: Action) -> HTMLResponse:
    """Return the commands that do the same as an action, as a part of a page."""
    hub = hub_of(request)
    path = hub.command_path(action.run)
    return hub.render.page(
        request, "commands.html", command=action.command(path), python=action.python(path)
    )


def job_part(request: Request, hub: Hub, job: Job) -> HTMLResponse:
    """Return a job with its results, as a part of a page."""
    values = job_values(hub, job)
    folder = getattr(job.action, "folder", None)
    if folder is not None and job.state == "done":
        values |= set_values(hub, job.action.run, folder)
        count = getattr(job.action, "n", None) or getattr(job.action, "frames", SHOWN)
        values["items"] = values["items"][:count]  # an earlier call may have drawn more
    if isinstance(job.action, NearestAction) and job.state == "done":
        values["nearest"] = read_nearest(job.files[-1])
    return hub.render.page(request, "job.html", **values)


def job_values(hub: Hub, job: Job) -> dict[str, Any]:
    """Return what a template shows of a job."""
    path = hub.command_path(job.action.run)
    try:
        command, python = job.action.command(path), job.action.python(path)
    except (ValueError, OSError):  # the run is gone
        command = python = ""
    pictures = [k for k, file in enumerate(job.files) if file.suffix == ".png"]
    shown = pictures[:MOST_PICTURES] if job.action.kind in SHOWN_KINDS else []
    return {"job": job, "command": command, "python": python, "pictures": shown} | {
        "compared": is_compared(job),
        "sounds": [_name(job, file) for file in job.files if file.suffix in (".wav", ".flac")],
        "proposed": proposed_by(job),
    }


def _name(job: Job, file: Path) -> str:
    """Return the name of a file of a job's run, relative to the run."""
    inside = file.is_relative_to(job.run)
    return file.relative_to(job.run).as_posix() if inside else file.name


def proposed_by(job: Job) -> str:
    """Return the settings that a look at data proposes, as JSON; nothing of other jobs."""
    if job.action.kind != "look" or len(job.files) < 2:
        return ""
    try:
        return job.files[1].read_text(encoding="utf-8")
    except OSError:  # it was removed since
        return ""


def set_values(hub: Hub, run: str, name: str) -> dict[str, Any]:
    """Return what a template shows of a set of samples."""
    facts = hub.index.facts(run)
    found = read_set(facts.path, name)
    kind = "picture" if facts.config is None else kind_of(facts.config)
    shown = range(min(found.count, SHOWN) if has_items(found) else 0)
    return {
        "run": facts,
        "samples": found,
        "kind": kind,
        "items": [{"number": k, "file": item_file(found, k)} for k in shown],
    }
