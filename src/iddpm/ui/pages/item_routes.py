"""One sample: a picture of it, its values, its way from noise; keeping it, editing it."""

import asyncio
import io
import wave
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from iddpm.ui.actions.nearest_action import NearestAction
from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.hub import fields_of, hub_of
from iddpm.ui.item_values import values_response
from iddpm.ui.kept_samples import content_of, keep_sample
from iddpm.ui.pages.file_routes import attachment
from iddpm.ui.pages.queue_page import queued
from iddpm.ui.render import address
from iddpm.ui.run_index import RunFacts
from iddpm.ui.sample_sets import (
    KEPT,
    SampleSet,
    item_file,
    kind_of,
    read_sample,
    read_set,
    sample_picture,
    source_of,
    way_frames,
    way_picture,
)

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

router = APIRouter()
Name = Annotated[str, Query(max_length=1_000)]
Number = Annotated[int, Query(ge=0, le=10**7)]


def _set_of(request: Request, run: str, name: str) -> tuple[RunFacts, SampleSet]:
    facts = hub_of(request).index.facts(run)
    if facts.config is None:
        raise ValueError(facts.why)
    return facts, read_set(facts.path, name)


@router.get("/item")
def show_item(request: Request, run: Name, samples: Name, number: Number) -> HTMLResponse:
    """Return the part of a page that shows one sample large."""
    facts, found = _set_of(request, run, samples)
    if not 0 <= number < max(found.count, 1):
        raise UnknownNameError(f"there is no sample {number} in {samples}")
    assert facts.config is not None
    file = item_file(found, number)
    kept = found.name == KEPT and file is not None
    return hub_of(request).render.page(
        request,
        "item.html",
        run=facts,
        samples=found,
        number=number,
        kind=kind_of(facts.config),
        file=file,
        title=found.files[number] if kept else number,
        kept=kept,
        frames=way_frames(found, number, facts.config.sampling.batch_size),
        rate=None if facts.config.form is None else facts.config.form.sample_rate,
        pace=80 if facts.config.form is None else facts.config.form.milliseconds or 80,
    )


@router.get("/item/picture")
def show_picture(request: Request, run: Name, samples: Name, number: Number) -> Response:
    """Return a picture of a sample."""
    facts, found = _set_of(request, run, samples)
    assert facts.config is not None
    return _png(sample_picture(found, number, facts.config))


@router.get("/item/way")
def show_way(request: Request, run: Name, samples: Name, number: Number, frame: Number) -> Response:
    """Return a sample on its way from noise."""
    facts, found = _set_of(request, run, samples)
    assert facts.config is not None
    return _png(way_picture(found, number, frame, facts.config.sampling.batch_size))


@router.get("/item/values")
def values(
    request: Request,
    run: Name,
    samples: Name,
    number: Number,
    low: Annotated[int | None, Query(alias="from", ge=0)] = None,
    high: Annotated[int | None, Query(alias="to", ge=0)] = None,
) -> Response:
    """Return a signal, thinned, as JSON; of a volume or clip uint8 [C, D, H, W]."""
    facts, found = _set_of(request, run, samples)
    assert facts.config is not None
    return values_response(read_sample(found, number, facts.config), low, high)


@router.get("/item/sound")
def play(request: Request, run: Name, samples: Name, number: Number) -> Response:
    """Return a sound as 16-bit WAV, of whatever kind its file is."""
    facts, found = _set_of(request, run, samples)
    assert facts.config is not None
    return sound_of(read_sample(found, number, facts.config), facts)


def sound_of(x: "Tensor", facts: RunFacts) -> Response:
    """Return a sound [C, L] in [-1, 1] of a run as a WAV file.

    Raises:
        UnknownNameError: the data of the run is no sounds.
    """
    rate = facts.config.form.sample_rate if facts.config and facts.config.form else None
    if rate is None or x.ndim != 2:
        raise UnknownNameError("this is no sound")
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(x.shape[0])
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes((x.numpy().clip(-1, 1).T * 32767).round().astype("<i2").tobytes())
    return Response(file.getvalue(), media_type="audio/wav")


@router.get("/item/download")
def download(request: Request, run: Name, samples: Name, number: Number) -> Response:
    """Return a file of one sample; one that has none becomes one like those of the data."""
    facts, found = _set_of(request, run, samples)
    assert facts.config is not None
    name, content = content_of(facts.path, found, number, facts.config)
    headers = {"Content-Disposition": attachment(name)}
    return Response(content, media_type="application/octet-stream", headers=headers)


async def _chosen(request: Request) -> tuple[RunFacts, SampleSet, int]:
    """Return the run, the set and the number of the sample that a form names."""
    fields = await fields_of(request)
    number = fields.get("number", "")
    if not (number.isascii() and number.isdecimal()) or len(number) > 7:
        raise UnknownNameError("there is no such sample")
    facts, found = _set_of(request, fields.get("run", ""), fields.get("samples", ""))
    return facts, found, int(number)


@router.post("/keep")
async def keep(request: Request) -> HTMLResponse:
    """Copy a sample to where no later command replaces it."""
    facts, found, number = await _chosen(request)
    assert facts.config is not None
    path = await asyncio.to_thread(keep_sample, facts.path, found, number, facts.config)
    return hub_of(request).render.page(request, "kept.html", path=path)


@router.post("/item/edit")
async def edit(request: Request) -> RedirectResponse:
    """Open a sample on the page of editing; one without a file that is read there is kept."""
    facts, found, number = await _chosen(request)
    path = await asyncio.to_thread(_editable, facts, found, number)
    return RedirectResponse(address("/edit", run=facts.name, item=path), 303)


def _editable(facts: RunFacts, found: SampleSet, number: int) -> str:
    """Return the file of a sample that is edited, relative to the run."""
    from iddpm.tasks.drawn_items import read_file

    own, config = item_file(found, number), facts.config
    assert config is not None
    if own is not None:
        try:
            read_file(config, confined(facts.path, own))
        except ValueError:  # such as a picture of numbers that it rounds
            if found.name == KEPT:
                raise
        else:
            return own
    return keep_sample(facts.path, found, number, config)


@router.post("/item/nearest")
async def find_nearest(request: Request) -> HTMLResponse:
    """Put a search for the nearest training items of a sample into the queue."""
    facts, found, number = await _chosen(request)
    file, place = source_of(found, number)
    out = facts.path / "nearest" / f"{found.name}_{number}"
    action = {"run": facts.name, "file": str(file), "number": place, "out": str(out)}
    return await queued(request, NearestAction.read(action))


def _png(picture: "Image.Image") -> Response:
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return Response(
        file.getvalue(), media_type="image/png", headers={"Cache-Control": "max-age=60"}
    )
