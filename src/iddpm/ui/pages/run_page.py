"""A run: curves, samples over the steps, settings, data, checkpoints; stop it and go on."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from iddpm.ui.actions.inspect_action import PICTURE, InspectAction
from iddpm.ui.hub import Hub, fields_of, hub_of
from iddpm.ui.log_columns import moving_average, thinned
from iddpm.ui.measurements import find_measurements
from iddpm.ui.pages.run_list_page import picture_of
from iddpm.ui.run_index import RunFacts
from iddpm.ui.run_settings import settings_rows
from iddpm.ui.sample_sets import list_sets

router = APIRouter()
PLOTS: dict[str, tuple[str, ...]] = {
    "loss": ("loss", "held_out_loss"),
    "quarters": ("loss_q0", "loss_q1", "loss_q2", "loss_q3"),
    "gradient_norm": ("gradient_norm",),
    "learning_rate": ("learning_rate",),
    "speed": ("items_per_second",),
    "memory": ("memory_mb",),
}
"""The plots and their columns of the log."""
AS_MEASURED = ("held_out_loss", "learning_rate", "memory_mb")
"""Columns that smoothing leaves alone."""
BAD_STEPS_SHOWN = 50
Name = Annotated[str, Query(max_length=1_000)]


@router.get("/run")
def show_run(request: Request, run: Name) -> HTMLResponse:
    """Show a run."""
    hub = hub_of(request)
    facts = hub.index.facts(run)
    others = [name for name in hub.index.names() if name != run]
    return hub.render.page(
        request, "run.html", others=others, plots=PLOTS, **head_values(hub, facts), **parts(facts)
    )


@router.get("/run/head")
def show_head(request: Request, run: Name) -> HTMLResponse:
    """Return the state and the progress alone, for an open page."""
    hub = hub_of(request)
    return hub.render.page(request, "run_head.html", **head_values(hub, hub.index.facts(run)))


@router.get("/run/parts")
def show_parts(request: Request, run: Name) -> HTMLResponse:
    """Return what changes when training writes a checkpoint or a picture."""
    hub = hub_of(request)
    facts = hub.index.facts(run)
    return hub.render.page(request, "run_parts.html", run=facts, **parts(facts))


def head_values(hub: Hub, facts: RunFacts) -> dict[str, Any]:
    """Return what the head of the page shows."""
    path = str(hub.command_path(facts.name))
    steps = facts.steps if facts.step < facts.steps else 2 * facts.steps
    more = [f"training.steps={steps}"]
    resumed = f"iddpm.train(out={path!r}, resume=True, settings={more!r})"
    described = f"summarize(Path({path!r}))"
    commands = {
        "resume": (
            shlex.join(["iddpm", "train", "--resume", "--out", path, "--steps", str(steps)]),
            f"import iddpm\n\n{resumed}",
        ),
        "info": (
            shlex.join(["iddpm", "info", path]),
            f"from pathlib import Path\n\nfrom iddpm.tasks.summary import summarize\n\n{described}",
        ),
    }
    return {
        "run": facts,
        "next_steps": steps,
        "starting": facts.state != "training" and hub.trainings.is_starting(facts.path),
        "problem": hub.trainings.problem(facts.path),
        "commands": commands,
        "picture": picture_of(facts),
    }


def parts(facts: RunFacts) -> dict[str, Any]:
    """Return what the parts below the curves show."""
    data = facts.path / PICTURE
    return {
        "previews": [
            {"step": step, "path": path.relative_to(facts.path).as_posix()}
            for step, path in facts.previews.items()
        ],
        "sets": list_sets(facts.path),
        "settings": [] if facts.config is None else settings_rows(facts.config),
        "data_picture": data.stat().st_mtime_ns if data.is_file() else None,
        "bad_steps": read_bad_steps(facts.path),
        "measurements": find_measurements(facts.path),
    }


def read_bad_steps(run: Path) -> list[dict[str, Any]]:
    """Return the last steps that were left out, from ``bad_steps.jsonl``."""
    path = run / "bad_steps.jsonl"
    if not path.is_file() or path.is_symlink():
        return []
    found = []
    for line in path.read_bytes().splitlines()[-BAD_STEPS_SHOWN:]:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and type(record.get("step")) is int:
            items = record.get("items")
            known = items if isinstance(items, list) else []
            keys = [str(item.get("key")) for item in known if isinstance(item, dict)]
            found.append({"step": record["step"], "cause": str(record.get("cause")), "keys": keys})
    return found[::-1]


@router.get("/run/curves")
def curves(
    request: Request,
    run: Name,
    beside: Name = "",
    smooth: Annotated[int, Query(ge=1, le=100_000)] = 1,
    low: Annotated[float | None, Query(alias="from")] = None,
    high: Annotated[float | None, Query(alias="to")] = None,
) -> Response:
    """Return the columns of a run's log, thinned, and those of another one beside it."""
    hub = hub_of(request)
    names = [run, beside] if beside else [run]
    both = [columns_of(hub, name, smooth, low, high) for name in names]
    return Response(json.dumps({"runs": both}), media_type="application/json")


def columns_of(
    hub: Hub, name: str, smooth: int, low: float | None, high: float | None
) -> dict[str, Any]:
    """Return the columns between two steps: about 2,000 points of each, the extremes kept."""
    log = hub.index.log(name)
    steps = log.column("step")
    size = len(steps)
    wanted = [column for columns in PLOTS.values() for column in columns]
    measured = [log.column(column)[:size] for column in wanted]
    averaged = [
        values if column in AS_MEASURED else moving_average(values, smooth)
        for column, values in zip(wanted, measured, strict=True)
    ]
    inside = slice(
        0 if low is None else int(steps.searchsorted(low)),
        size if high is None else int(steps.searchsorted(high, "right")),
    )
    x, thin = thinned(steps[inside], [values[inside] for values in averaged])
    return {
        "name": name,
        "count": size,
        "step": [int(value) for value in x],
        **{
            column: [float(f"{v:.6g}") if v == v and abs(v) < 1e300 else None for v in values]
            for column, values in zip(wanted, thin, strict=True)
        },
    }


@router.post("/run/stop")
async def stop(request: Request) -> RedirectResponse:
    """Ask a training to save and end."""
    hub, fields = hub_of(request), await fields_of(request)
    run = fields.get("run", "")
    hub.trainings.stop(hub.index.path(run))
    return back_to(request, run)


@router.post("/run/resume")
async def resume(request: Request) -> RedirectResponse:
    """Go on with a training, in a process that outlives the server."""
    hub, fields = hub_of(request), await fields_of(request)
    run, steps = fields.get("run", ""), fields.get("steps", "").strip()
    path = hub.index.path(run)
    words = ["train", "--resume", "--out", str(path)]
    if steps:
        if not steps.isdecimal() or not 0 < int(steps) <= 10**9:
            raise ValueError(f"steps={steps[:40]!r} is no number of steps: use 1 or more")
        words += ["--steps", steps]
    hub.trainings.start(path, words)
    return back_to(request, run)


@router.post("/run/inspect")
async def inspect_data(request: Request) -> RedirectResponse:
    """Put a look at the data into the queue."""
    hub, fields = hub_of(request), await fields_of(request)
    action = InspectAction.read({"run": fields.get("run", "")})
    hub.jobs.add(action, hub.index.path(action.run))
    return RedirectResponse("/queue", 303)


def back_to(request: Request, run: str) -> RedirectResponse:
    """Go back to the page of a run."""
    from iddpm.ui.render import address

    return RedirectResponse(address("/run", run=run), 303)
