"""Measurements: those of all runs beside each other, and new ones."""

import re
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse

from iddpm.ui.actions.action import Action
from iddpm.ui.actions.compare_actions import COMPARED, CompareDataAction, CompareRunsAction
from iddpm.ui.actions.measure_actions import EvaluateAction, LikelihoodAction, TuneAction
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.measurements import TRIED, Measurement, find_measurements, find_tried
from iddpm.ui.pages.queue_page import queued
from iddpm.ui.pages.sample_page import classifier_runs, drawing_runs
from iddpm.ui.run_index import ITSELF, RunFacts
from iddpm.ui.sample_sets import list_sets, read_set
from iddpm.ui.uploads import UPLOAD

router = APIRouter()
CLASSIFIER = "classifier:"
"""What stands before the name of a run whose features are used."""
SAMPLES = "/samples/"
"""What stands between a run and the name of a set of its samples."""
MOST_SETS = 200
FORWARD = 3.0
"""How many times faster a network is evaluated than trained, about."""
METHODS = 9
"""Samplers that :mod:`iddpm.tasks.tune` tries, which the server does not import."""
FORMS: dict[str, type[Action]] = {
    action.kind: action
    for action in (
        LikelihoodAction,
        EvaluateAction,
        TuneAction,
        CompareRunsAction,
        CompareDataAction,
    )
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
        return hub.render.page(request, "sample_none.html", page="measure")
    facts = hub.index.facts(chosen)
    return hub.render.page(
        request,
        "measure.html",
        run=facts,
        names=names,
        classifiers=classifier_runs(hub),
        sets=sample_sets(hub, names),
        **table_values(hub, names),
    )


@router.get("/measure/table")
def show_table(request: Request) -> HTMLResponse:
    """Return the measurements alone, for an open page."""
    hub = hub_of(request)
    return hub.render.page(request, "measure_table.html", **table_values(hub, drawing_runs(hub)))


def table_values(hub: Hub, names: list[str]) -> dict[str, Any]:
    """Return a row for each measure, with a cell for each run that has it; samplers by run."""
    rows: dict[tuple[str, ...], dict[str, Measurement]] = {}
    for name in names:
        for m in find_measurements(hub.index.path(name)):
            rows.setdefault((m.kind, m.measure, m.what, m.other), {})[name] = m
    measured = [name for name in names if any(name in cells for cells in rows.values())]
    tried = {name: found for name in names if (found := find_tried(hub.index.path(name)))}
    return {"rows": rows, "with_measures": measured, "tried": tried, "columns": (*TRIED, "score")}


def sample_sets(hub: Hub, names: list[str]) -> list[str]:
    """Return the sets of samples of all runs, ``RUN/samples/SET``."""
    return [
        f"{name}{SAMPLES}{found.name}"
        for name in names
        for found in list_sets(hub.index.path(name))
        if found.count
    ][:MOST_SETS]


async def read_action(request: Request, hub: Hub) -> Action:
    """Read one of the forms; data and runs become paths that are ours."""
    fields: dict[str, Any] = dict(await fields_of(request))
    kind = FORMS.get(fields.pop("kind", ""))
    if kind is None:
        raise ValueError(f"unknown measurement: use {', '.join(FORMS)}")
    features = fields.get("features", "")
    if features not in ("", "pca"):
        if not features.startswith(CLASSIFIER):
            raise ValueError("features are pca, or those of a classifier of this directory")
        fields["features"] = str(hub.index.path(features.removeprefix(CLASSIFIER)))
    run = fields.get("run", "")
    if kind is CompareRunsAction:
        if run == ITSELF:  # the table would lie beside it, outside
            raise ValueError("runs are compared where both lie in the directory of the page")
        fields["other"] = str(hub.index.path(fields.get("other", "")))
    if kind is CompareDataAction:
        names = {s: fields[s] for s in ("generated", "real") if fields.get(s)}
        fields["out"] = str(hub.index.path(run) / COMPARED / report_name(run, *names.values()))
        lines = fields.pop("more", "").splitlines()
        fields["settings"] = tuple(line.strip() for line in lines if line.strip())
        fields |= {side: str(find_data(hub, name)) for side, name in names.items()}
    if kind is EvaluateAction:
        fields.pop("out", None)
        if fields.get("data"):
            name = f"evaluation-{report_name(run, fields['data'])}"
            fields["out"] = str(hub.index.path(run) / COMPARED / name)
            fields["data"] = str(find_data(hub, fields["data"]))
    return kind.read(fields)


def report_name(run: str, *data: str) -> str:
    """Return the name of the folder of a report, from what is compared by a run."""
    own = (name.removeprefix(f"{run}{SAMPLES}").removeprefix(UPLOAD) for name in data)
    plain = (re.sub("[^A-Za-z0-9._-]+", "_", name.replace(SAMPLES, "_")) for name in own)
    return "-".join(name[-60:].lstrip(".") for name in plain) or "data"


def find_data(hub: Hub, text: str) -> Path:
    """Return a file or folder that was dropped, or a set of samples.

    Raises:
        UnknownNameError: it is neither, or is not there.
    """
    if text.startswith(UPLOAD):
        return hub.uploads.path(text.removeprefix(UPLOAD), folder=True)
    run, _, name = text.rpartition(SAMPLES)
    return read_set(hub.index.path(run), name).path


@router.post("/measure")
async def measure(request: Request) -> HTMLResponse:
    """Put a measurement into the queue."""
    return await queued(request, await read_action(request, hub_of(request)))


@router.post("/measure/commands")
async def commands(request: Request) -> HTMLResponse:
    """Return the commands that do what a form says, and how long it takes, about."""
    hub = hub_of(request)
    action = await read_action(request, hub)
    path = hub.command_path(action.run)
    runs = [action.run]
    if isinstance(action, CompareRunsAction):
        runs.append(Path(action.other).relative_to(hub.index.root).as_posix())
    times = [expected_seconds(action, hub.index.facts(run)) for run in runs]
    return hub.render.page(
        request,
        "measure_commands.html",
        command=action.command(path),
        python=action.python(path),
        seconds=None if None in times else sum(time for time in times if time),
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
