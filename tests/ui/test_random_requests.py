"""Random requests: every one is answered, none by a fault."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from iddpm.ui.application import build_hub
from iddpm.ui.job_queue import JobQueue
from tests.ui.conftest import SCRIPT, open_client
from tests.ui.stand_ins import work
from tests.ui.test_security import ADDRESSES

NAMES = (
    "run",
    "samples",
    "number",
    "path",
    "beside",
    "smooth",
    "from",
    "to",
    "frame",
    "steps",
    "n",
    "seed",
    "class_name",
    "guidance",
    "spacing",
    "sampler",
    "name",
    "checkpoint",
    "ema",
    "back",
    "language",
    "theme",
    "download",
    "condition:x",
    "token",
    "gif",
    "device",
    "kind",
    "item",
    "file",
    "features",
    "other",
    "generated",
    "real",
    "more",
)
KNOWN = (
    "pictures",
    ".",
    "five",
    "seed_0",
    "samples/step_00000002.png",
    "0",
    "1",
    "-1",
    "3",
    "1e9",
    "nan",
    "inf",
    "true",
    "ddim",
    "..",
    "/",
    "",
    SCRIPT,
    "%00",
    "config.yaml",
    "inpaint",
    "evaluate",
    "compare_runs",
    "compare_data",
    "pictures/samples/seed_0",
    "upload/x.npy",
    "upload/",
    "1" * 30,
)
texts = st.one_of(st.sampled_from(KNOWN), st.text(max_size=12), st.integers().map(str))
fields = st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), texts, max_size=5)
paths = st.sampled_from(
    [path for path in ADDRESSES if path not in ("/events", "/run/resume", "/train")]
)
bodies = st.one_of(st.none(), st.binary(max_size=60), fields)


def test_no_request_is_a_fault(trained_runs, monkeypatch):
    hub = build_hub(trained_runs)
    jobs = JobQueue(hub.jobs.root, lambda job: None, work)
    object.__setattr__(hub, "jobs", jobs)
    monkeypatch.setattr("iddpm.ui.job_queue.MOST_WAITING", 10**6)
    client = open_client(hub)
    seen = set()

    @settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(["GET", "POST", "HEAD", "PUT"]), paths, fields, bodies, st.booleans())
    def ask(method, path, query, body, part):
        sent = {"data": body} if isinstance(body, dict) else {"content": body}
        clean = {k: v.encode("utf-8", "replace").decode() for k, v in query.items()}
        headers = {"hx-request": "true"} if part else {}
        answer = client.request(method, path, params=clean, headers=headers, **sent)
        assert answer.status_code < 500, (method, path, query, body, answer.text)
        seen.add((path, answer.status_code))

    ask()
    jobs.close()
    assert {status for _, status in seen} >= {200, 303, 400, 404, 405}
