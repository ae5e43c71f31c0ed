"""Sampling: what is drawn and how, the samples as they come, and those drawn before."""

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from iddpm.config.choices import MEASURED_SPACINGS, SAMPLERS, SPACINGS
from iddpm.training.checkpoints.checkpoint_files import step_of
from iddpm.ui.actions.sample_action import SampleAction
from iddpm.ui.confined_paths import UnknownNameError
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.pages.queue_page import commands_part, queued, set_values
from iddpm.ui.run_index import RunFacts
from iddpm.ui.sample_sets import list_sets
from iddpm.ui.uploads import UPLOAD

router = APIRouter()
CONDITION = "condition:"
"""What stands before the name of a condition in a field."""
Name = Annotated[str | None, Query(max_length=1_000)]
MOST_CLASSES = 500
"""Classes that are offered in a list; of more the name is typed."""


@router.get("/sample")
def show(request: Request, run: Name = None, samples: Name = None) -> HTMLResponse:
    """Show the form, and the samples of a set."""
    hub = hub_of(request)
    names = drawing_runs(hub)
    chosen = run if run is not None else (names[0] if names else None)
    if chosen is None:
        return hub.render.page(request, "sample_none.html", page="sample")
    facts = hub.index.facts(chosen)
    if facts.config is None:
        raise ValueError(facts.why)
    shown = {} if samples is None else set_values(hub, chosen, samples)
    values = form_values(facts) | command_values(hub, chosen)
    values["classifiers"] = classifier_runs(hub)
    return hub.render.page(request, "sample.html", names=names, shown=shown, **values)


def drawing_runs(hub: Hub) -> list[str]:
    """Return the names of the runs that samples can be drawn of."""
    return [name for name, task in _trained_runs(hub) if task != "classification"]


def classifier_runs(hub: Hub) -> list[str]:
    """Return the names of the classifiers."""
    return [name for name, task in _trained_runs(hub) if task == "classification"]


def _trained_runs(hub: Hub) -> Iterator[tuple[str, str]]:
    """Yield the names of the runs that have weights, and their tasks."""
    for name in hub.index.names():
        try:
            facts = hub.index.facts(name)
        except UnknownNameError:
            continue
        trained = facts.facts.get("checkpoints") or "weights" in facts.facts
        if facts.config is not None and trained:
            yield name, facts.config.task


def form_values(facts: RunFacts) -> dict[str, Any]:
    """Return what the form offers."""
    config = facts.config
    assert config is not None
    classes = config.class_names if config.model.class_conditional else ()
    conditions = config.model.conditions or {}
    return {
        "run": facts,
        "classes": classes if len(classes) <= MOST_CLASSES else (),
        "has_classes": bool(classes),
        "conditions": conditions,
        "guided": bool(classes or conditions) and not facts.offered,
        "samplers": SAMPLERS,
        "spacings": ("auto", *SPACINGS, *MEASURED_SPACINGS),
        "defaults": config.sampling,
        "most_steps": config.diffusion.num_steps,
        "rates": config.training.ema_rates,
        "plain": config.task == "generation" and not facts.offered,
        "resized": config.task == "generation" and not config.model.given_channels,
        "given": bool(config.model.given_channels),
        "posthoc": config.training.posthoc_ema is not None,
        "checkpoints": [step_of(facts.path / n) for n in facts.facts.get("checkpoints", [])],
        "best": "best" in facts.facts,
        "sets": list_sets(facts.path),
    }


def command_values(hub: Hub, run: str) -> dict[str, str]:
    """Return the commands of the form as it is first shown."""
    action, path = SampleAction(run=run), hub.command_path(run)
    return {"command": action.command(path), "python": action.python(path)}


async def read_action(request: Request) -> SampleAction:
    """Read the form; the classifier and the file of paired data become ours."""
    hub, fields = hub_of(request), dict[str, Any](await fields_of(request))
    if fields.get("classifier"):
        fields["classifier"] = str(hub.index.path(fields["classifier"]))
    if fields.get("given"):
        fields["given"] = str(hub.uploads.path(fields["given"].removeprefix(UPLOAD), folder=True))
    fields["conditions"] = {
        name.removeprefix(CONDITION): fields.pop(name)
        for name in list(fields)
        if name.startswith(CONDITION)
    }
    return SampleAction.read(fields)


@router.post("/sample")
async def draw(request: Request) -> HTMLResponse:
    """Put the samples into the queue."""
    return await queued(request, await read_action(request))


@router.post("/sample/commands")
async def commands(request: Request) -> HTMLResponse:
    """Return the commands that do what the form says."""
    action = await read_action(request)
    hub_of(request).index.path(action.run)
    return commands_part(request, action)


@router.get("/sample/sets")
def show_sets(request: Request, run: Annotated[str, Query(max_length=1_000)]) -> HTMLResponse:
    """Return the list of sets, as a part of a page."""
    hub = hub_of(request)
    facts = hub.index.facts(run)
    return hub.render.page(request, "set_list.html", run=facts, sets=list_sets(facts.path))


@router.get("/samples")
def show_set(
    request: Request,
    run: Annotated[str, Query(max_length=1_000)],
    samples: Annotated[str, Query(max_length=1_000)],
) -> HTMLResponse:
    """Return a set of samples, as a part of a page."""
    hub = hub_of(request)
    return hub.render.page(request, "samples.html", **set_values(hub, run, samples))
