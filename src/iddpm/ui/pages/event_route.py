"""The stream of changes that open pages listen to."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from iddpm.ui.event_stream import TooManyWatchersError
from iddpm.ui.hub import hub_of

router = APIRouter()


@router.get("/events")
async def events(
    request: Request,
    run: Annotated[list[str] | None, Query(max_length=20)] = None,
    active: Annotated[int | None, Query(ge=0, le=10**9)] = None,
) -> StreamingResponse:
    """Stream the changes of some runs, or of all, and those of the queue.

    ``active`` is how many of these runs the page shows as training or starting.
    """
    runs = None if run is None else frozenset(run)
    try:
        lines = hub_of(request).events.watch(runs, active)
    except TooManyWatchersError as error:
        raise HTTPException(503, str(error)) from None
    return StreamingResponse(lines, media_type="text/event-stream")
