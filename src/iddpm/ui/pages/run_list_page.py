"""All runs: state, progress, a small curve and the newest picture of each."""

import shlex
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse

from iddpm.ui.confined_paths import UnknownNameError
from iddpm.ui.hub import Hub, hub_of
from iddpm.ui.log_columns import moving_average, thinned
from iddpm.ui.run_index import RunFacts

router = APIRouter()
SPARK_POINTS = 40
FIRST = {"training": 0, "failed": 1, "damaged": 1}
"""Order of the states; others follow, the newest first."""


@router.get("/")
def runs(request: Request) -> HTMLResponse:
    """Show all runs."""
    hub = hub_of(request)
    return hub.render.page(request, "runs.html", **list_values(hub))


@router.get("/runs/rows")
def rows(request: Request) -> HTMLResponse:
    """Return the rows alone, for an open page."""
    hub = hub_of(request)
    return hub.render.page(request, "runs_rows.html", **list_values(hub))


def list_values(hub: Hub) -> dict[str, Any]:
    """Return what the list shows: the runs, and trainings that did not get that far."""
    unstarted = hub.trainings.unstarted(hub.index.root)
    demo = shlex.join(["iddpm", "demo", "--out", str(hub.shown / "demo")])
    return {
        "rows": rows_of(hub),
        "unstarted": unstarted,
        "root": str(hub.shown),
        "demo": demo,
    }


def rows_of(hub: Hub) -> list[dict[str, Any]]:
    """Return what is shown of each run, those that train first."""
    found: list[tuple[RunFacts, list[float]]] = []
    for name in hub.index.names():
        try:
            facts = hub.index.facts(name)
            found.append((facts, small_curve(hub, name)))
        except UnknownNameError:  # it went meanwhile
            continue
    found.sort(key=lambda pair: FIRST.get(pair[0].state, 2))
    return [
        {
            "run": facts,
            "curve": curve,
            "picture": picture_of(facts),
            "problem": hub.trainings.problem(facts.path),
        }
        for facts, curve in found
    ]


def small_curve(hub: Hub, name: str) -> list[float]:
    """Return the smoothed loss, thinned."""
    log = hub.index.log(name)
    loss = log.column("loss")
    smooth = moving_average(loss, max(1, len(loss) // SPARK_POINTS))
    _, (points,) = thinned(log.column("step"), [smooth], SPARK_POINTS)
    return [float(value) for value in points]


def picture_of(facts: RunFacts) -> dict[str, Any] | None:
    """Return the newest picture's name in the run directory, and when it was made."""
    if facts.picture is None:
        return None
    made = facts.picture.relative_to(facts.path).as_posix()
    try:
        return {"path": made, "version": facts.picture.stat().st_mtime_ns}
    except OSError:
        return None
