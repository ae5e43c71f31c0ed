"""The application: every page of the table, errors as pages, and the guard around them."""

import sys
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from iddpm.runtime.errors import in_words
from iddpm.ui.confined_paths import UnknownNameError
from iddpm.ui.event_stream import EventStream
from iddpm.ui.hub import Hub, hub_of, job_message
from iddpm.ui.job_queue import JobQueue
from iddpm.ui.pages import PAGES
from iddpm.ui.render import Renderer
from iddpm.ui.run_index import RunIndex
from iddpm.ui.security import BodyTooLargeError, Guard
from iddpm.ui.training_processes import TrainingProcesses
from iddpm.ui.uploads import Uploads, UploadTooLargeError

STATIC = Path(__file__).parent / "static"


def build_hub(runs: Path) -> Hub:
    """Return what the pages of a directory of runs share."""
    index = RunIndex(runs)
    trainings = TrainingProcesses()
    events = EventStream(index, trainings.is_starting)
    jobs = JobQueue(index.root, lambda job: events.tell(job_message(job, jobs.active())))
    shared = {"menu": [page for page in PAGES if page.in_menu], "active_jobs": jobs.active}
    uploads = Uploads(index.root)
    uploads.clear()
    return Hub(runs, index, events, jobs, trainings, uploads, Renderer(shared))


def create_app(hub: Hub, *, token: str, host: str = "127.0.0.1", port: int = 0) -> ASGIApp:
    """Return the application; nobody gets in without the token.

    Args:
        hub: what the pages share.
        token: the secret.
        host, port: what the server listens on.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        hub.events.end()
        hub.jobs.close()

    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.hub = hub
    for page in PAGES:
        app.include_router(page.router)
    app.mount("/static", StaticFiles(directory=STATIC), "static")
    app.add_exception_handler(UnknownNameError, _not_found)
    app.add_exception_handler(HTTPException, _refused)
    for kind in (ValueError, OSError, RequestValidationError):
        app.add_exception_handler(kind, _bad_request)
    app.add_exception_handler(Exception, _fault)
    return Guard(app, token=token, host=host, port=port, uploads=("/upload",))


def _answer(request: Request, status: int, message: str) -> Response:
    """Return an error as a page, or as a part of one that htmx asked for."""
    template = "error_part.html" if "hx-request" in request.headers else "error.html"
    render = hub_of(request).render
    return render.page(request, template, status=status, code=status, message=message)


async def _not_found(request: Request, error: Exception) -> Response:
    return _answer(request, 404, str(error))


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _answer(request, error.status_code, str(error.detail))


async def _bad_request(request: Request, error: Exception) -> Response:
    if isinstance(error, BodyTooLargeError | UploadTooLargeError):
        return _answer(request, 413, str(error))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        return _answer(request, 400, f"{first['loc'][-1]} does not work: {first['msg']}")
    return _answer(request, 400, in_words(error))


async def _fault(request: Request, error: Exception) -> Response:
    traceback.print_exception(error, file=sys.stderr)
    return _answer(request, 500, "the server met a fault; its terminal says which")
