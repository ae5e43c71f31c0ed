"""What all pages share: the runs, the queue, the trainings, the templates."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.requests import Request

from iddpm.ui.event_stream import EventStream
from iddpm.ui.job_queue import Job, JobQueue
from iddpm.ui.render import Renderer
from iddpm.ui.run_index import ITSELF, RunIndex
from iddpm.ui.training_processes import TrainingProcesses
from iddpm.ui.uploads import Uploads

MOST_FIELDS = 200
"""Fields of a form."""


@dataclass(frozen=True)
class Hub:
    """What the server holds.

    Attributes:
        shown: the directory of the runs as the user wrote it, for commands to copy.
        index: the runs.
        events: tells open pages of changes.
        jobs: the queue.
        trainings: those that were started here.
        uploads: files that pages have sent.
        render: the templates.
    """

    shown: Path
    index: RunIndex
    events: EventStream
    jobs: JobQueue
    trainings: TrainingProcesses
    uploads: Uploads
    render: Renderer

    def command_path(self, name: str) -> Path:
        """Return the path of a run as the user would write it."""
        return self.shown if name == ITSELF else self.shown / name


def hub_of(request: Request) -> Hub:
    """Return what the server holds."""
    hub: Hub = request.app.state.hub
    return hub


async def fields_of(request: Request) -> dict[str, str]:
    """Return the fields of a form.

    Raises:
        ValueError: it is no form, or has too many fields.
    """
    body = await request.body()
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            max_num_fields=MOST_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise ValueError("the request is not a form") from None
    return dict(pairs)


def job_message(job: Job, active: int) -> dict[str, object]:
    """Return what pages hear of a job, and how many have not ended."""
    return {
        "active": active,
        "event": "job",
        "number": job.number,
        "state": job.state,
        "share": job.share,
        "picture": job.pictures,
    }
