"""Measurements: those of all runs beside each other, and new ones."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from iddpm.ui.actions.action import Action
from iddpm.ui.actions.measure_actions import EvaluateAction, LikelihoodAction, TuneAction
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.measurements import TRIED, Measurement, find_measurements, find_tried
from iddpm.ui.pages.queue_page import queued
from iddpm.ui.pages.sample_page import classifier_runs, drawing_runs
from iddpm.ui.run_index import RunFacts

router = APIRouter()
CLASSIFIER = "classifier:"
"""What stands before the name of a run whose features are used."""
FORWARD = 3.0
"""How many times faster a network is evaluated than trained, about."""
METHODS = 9
"""Samplers that :mod:`iddpm.tasks.tune` tries, which the server does not import."""
FORMS: dict[str, type[Action]] = {
    action.kind: action for action in (LikelihoodAction, EvaluateAction, TuneAction)
}


@router.get("/measure")
def show(
    request: Request, run: Annotated[str | None, Query(max_length=1_000)] = None
) -> HTMLResponse:
    """Show the measurements, and the forms for others."""
    hub = hub_of(request)
    names = drawing_runs(hub)
    chosen = run if run is not None else (names[0] if names else None)
    if chosen is None:
        return hub.render.page(request, "sample_none.html")
    facts = hub.index.facts(chosen)
    return hub.render.page(
        request,
        "measure.html",
        run=facts,
        names=names,
        classifiers=classifier_runs(hub),
        **table_values(hub, names),
    )


@router.get("/measure/table")
def show_table(request: Request) -> HTMLResponse:
    """Return the measurements alone, for an open page."""
    hub = hub_of(request)
    return hub.render.page(request, "measure_table.html", **table_values(hub, drawing_runs(hub)))


def table_values(hub: Hub, names: list[str]) -> dict[str, Any]:
    """Return a row for each measure, with a cell for each run that has it; samplers by run."""
    rows: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for name in names:
        for m in find_measurements(hub.index.path(name)):
            rows.setdefault((m.kind, m.what, m.unit), {})[name] = m
    measured = [name for name in names if any(name in cells for cells in rows.values())]
    tried = {name: found for name in names if (found := find_tried(hub.index.path(name)))}
    return {"rows": rows, "measured": measured, "tried": tried, "columns": (*TRIED, "score")}


async def read_action(request: Request, hub: Hub) -> Action:
    """Read one of the forms."""
    fields = await fields_of(request)
    kind, features = FORMS.get(fields.pop("kind", "")), fields.get("features", "pca")
    if kind is None or not (features in ("", "pca") or features.startswith(CLASSIFIER)):
        raise ValueError(f"a measurement is {', '.join(FORMS)}, of pca or a classifier")
    if features.startswith(CLASSIFIER):
        fields["features"] = str(hub.index.path(features.removeprefix(CLASSIFIER)))
    return kind.read(fields)


@router.post("/measure")
async def measure(request: Request) -> HTMLResponse:
    """Put a measurement into the queue."""
    return await queued(request, await read_action(request, hub_of(request)))


@router.post("/measure/commands")
async def commands(request: Request) -> HTMLResponse:
    """Return the commands that do what a form says, and how long it takes, about."""
    hub = hub_of(request)
    action = await read_action(request, hub)
    facts, path = hub.index.facts(action.run), hub.command_path(action.run)
    return hub.render.page(
        request,
        "measure_commands.html",
        command=action.command(path),
        python=action.python(path),
        seconds=expected_seconds(action, facts),
    )


def expected_seconds(action: Action, facts: RunFacts) -> float | None:
    """Return how long a measurement takes, from the speed of the training; None if not known."""
    speed, config = facts.facts.get("items_per_second"), facts.config
    if not speed or config is None:
        return None
    if isinstance(action, EvaluateAction):
        evaluations = action.n * (action.steps or config.sampling.steps)
    elif isinstance(action, LikelihoodAction):
        each = action.samples_per_item or action.steps or config.diffusion.num_steps
        if action.max_items is None:
            return None
        evaluations = action.max_items * each
    elif isinstance(action, TuneAction):
        evaluations = action.n * METHODS * sum(action.counts)
    else:
        return None
    return evaluations / (FORWARD * float(speed))
