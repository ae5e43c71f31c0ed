"""Nobody gets in without the token, from another site, or out of the directory of the runs."""

import asyncio
import json
import os
import socket
from urllib.parse import quote

import pytest

from iddpm.ui.pages import PAGES
from iddpm.ui.security import HEADERS, LARGEST_BODY, Guard, is_loopback, new_token
from tests.ui.conftest import BASE, SCRIPT, TOKEN, open_client, write_run

ADDRESSES = sorted(
    {route.path for page in PAGES for route in page.router.routes} | {"/static/app.js", "/nothing"}
)
"""All that the server answers, and more."""


def test_the_table_of_pages_has_all_addresses():
    assert {"/", "/run", "/run/curves", "/sample", "/queue", "/file", "/events"} <= set(ADDRESSES)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "OPTIONS"])
def test_without_the_token_every_path_is_refused(hub, method):
    client = open_client(hub, token="")
    for path in ADDRESSES:
        for query in ("", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?token={TOKEN[:-1]}"):
            assert client.request(method, path + query).status_code == 401
    client.cookies.set("iddpm_ui_8479", TOKEN[:-1] + "x")
    for path in ADDRESSES:
        assert client.request(method, path).status_code == 401


def test_the_token_moves_from_the_address_into_a_cookie(hub):
    client = open_client(hub, token="")
    answer = client.get(f"/run?token={TOKEN}&run=a+b")
    assert (answer.status_code, answer.headers["location"]) == (303, "/run?run=a+b")
    cookie = answer.headers["set-cookie"]
    assert f"iddpm_ui_8479={TOKEN}" in cookie
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert client.get("/").status_code == 200  # the client keeps the cookie
    assert len(new_token()) >= 40
    assert new_token() != new_token()


def test_the_redirect_stays_on_this_host(hub):
    client = open_client(hub, token="")
    for path in ("//evil.example/x", "/%2Fevil.example", "/\\evil.example"):
        answer = client.get(f"{BASE}{path}?token={TOKEN}")
        location = answer.headers["location"]
        assert location.startswith("/")
        assert location[1:2] not in ("/", "\\")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8479", 200),
        ("localhost:8479", 200),
        ("localhost", 200),
        ("[::1]:8479", 200),
        ("127.0.0.1:2222", 200),  # as through ssh -L 2222:localhost:8479
        ("evil.example", 403),
        ("evil.example:8479", 403),
        ("127.0.0.1.evil.example:8479", 403),
        ("localhost.evil.example", 403),
        ("192.168.1.7:8479", 403),
        ("", 403),
        ("[", 403),
        ("@localhost", 403),
    ],
)
def test_the_host_is_checked(client, host, status):
    assert client.get("/", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://127.0.0.1:8479"}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_requests_of_other_sites_are_refused(client, headers, status):
    assert client.get("/", headers=headers).status_code == status
    wanted = 303 if status == 200 else status
    assert client.post("/preferences", headers=headers).status_code == wanted


def test_an_address_of_the_network_is_let_in_where_the_server_listens_on_it():
    guard = Guard(lambda *_: None, token="x", host="0.0.0.0", port=1)  # type: ignore[arg-type]
    assert guard._is_ours(["192.168.1.7:1"])
    assert guard._is_ours([socket.gethostname()])
    assert not guard._is_ours(["evil.example"])
    assert [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "box")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_every_answer_has_the_headers(client, root):
    write_run(root / "a")
    for path in ("/", "/run?run=a", "/static/app.js", "/nothing", "/run?run=b"):
        answer = client.get(path)
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
    assert "'unsafe" not in HEADERS["Content-Security-Policy"]


def test_no_page_has_inline_script_or_style(client, root, trained_runs):
    from iddpm.ui.application import build_hub

    pages = open_client(build_hub(trained_runs))
    for path in ("/", "/run?run=pictures", "/sample?run=pictures", "/queue"):
        text = pages.get(path).text
        for forbidden in ("style=", "<style", "onclick", "onerror=alert", "javascript:", "http://"):
            assert forbidden not in text.replace("&lt;img src=x onerror=alert(1)&gt;", ""), path
        assert text.count("<script") == text.count('src="/static/') - text.count(
            '<img src="/static'
        )


OUTSIDE = (
    "../secret.json",
    "/etc/passwd",
    "a/../../secret.json",
    "..\\secret.json",
    "out/secret.json",
    "a\x00.png",
    "./../secret.json",
    "~/secret.json",
    "a/" * 600,
    "\ud800",
    "a//../..//secret.json",
)


@pytest.mark.parametrize("name", OUTSIDE)
def test_nothing_outside_is_read(client, root, name):
    run = write_run(root / "a")
    (root.parent / "secret.json").write_text('{"a": "SECRET"}')
    (root.parent / "config.yaml").write_text("task: generation")
    os.symlink(root.parent, run / "out")
    os.symlink(root.parent, root / "out")
    name = name.encode("utf-8", "surrogatepass").decode("latin-1")
    requests = [
        ("/run", {"run": name}),
        ("/sample", {"run": name}),
        ("/sample", {"run": "a", "samples": name}),
        ("/file", {"run": "a", "path": name}),
        ("/file", {"run": name, "path": "config.yaml"}),
        ("/run/curves", {"run": name}),
        ("/run/curves", {"run": "a", "beside": name}),
        ("/samples", {"run": "a", "samples": name}),
        ("/samples.zip", {"run": "a", "samples": name}),
        ("/item", {"run": "a", "samples": name, "number": "0"}),
        ("/item/picture", {"run": "a", "samples": name, "number": "0"}),
        ("/item/way", {"run": "a", "samples": name, "number": "0", "frame": "0"}),
    ]
    for path, query in requests:
        answer = client.get(path, params=query)
        assert answer.status_code in (400, 404), (path, query)
        assert "SECRET" not in answer.text
    for path, fields in [
        ("/run/stop", {"run": name}),
        ("/run/resume", {"run": name}),
        ("/run/inspect", {"run": name}),
        ("/sample", {"run": name}),
        ("/keep", {"run": "a", "samples": name, "number": "0"}),
    ]:
        assert client.post(path, data=fields).status_code in (400, 404), (path, fields)
    assert client.get(f"/static/{quote(name)}").status_code == 404


def test_links_that_lead_out_of_a_run_are_not_followed(client, root, hub):
    run = write_run(root / "a")
    (root.parent / "secret.json").write_text("SECRET")
    (run / "samples").mkdir()
    os.symlink(root.parent / "secret.json", run / "samples" / "x.json")
    os.symlink(root.parent, run / "samples" / "set")
    for path in ("samples/x.json", "samples/set/secret.json"):
        assert client.get("/file", params={"run": "a", "path": path}).status_code == 404
    assert client.get("/run?run=a").status_code == 200
    (run / "log.jsonl").unlink()
    os.symlink(root.parent / "secret.json", run / "log.jsonl")
    assert client.get("/run?run=a").status_code == 404
    assert client.get("/").status_code == 200


def test_hidden_and_other_files_are_not_served(client, root):
    run = write_run(root / "a")
    for name in (".train_output.txt", "page.html", "picture.svg", "model.safetensors", "code.py"):
        (run / name).write_text("<script>alert(1)</script>")
        assert client.get("/file", params={"run": "a", "path": name}).status_code == 404
    (run / "notes.md").write_text("<script>alert(1)</script>")
    answer = client.get("/file", params={"run": "a", "path": "notes.md"})
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_names_are_escaped(client, root):
    run = write_run(root / SCRIPT, status=1, reason="failed", step=1, message=f"why {SCRIPT}")
    (run / "samples" / SCRIPT).mkdir(parents=True)
    bad = {"step": 1, "cause": SCRIPT, "items": []}
    (run / "bad_steps.jsonl").write_text(json.dumps(bad) + "\n")
    for path, query in (
        ("/", {}),
        ("/run", {"run": SCRIPT}),
        ("/sample", {"run": SCRIPT}),
        ("/sample", {"run": SCRIPT, "samples": SCRIPT}),
        ("/run", {"run": f"{SCRIPT}x"}),
    ):
        answer = client.get(path, params=query)
        assert SCRIPT not in answer.text, (path, query)
    assert "&lt;img src=x" in client.get("/").text


def test_large_requests_are_refused(client):
    assert client.post("/sample", content=b"x" * (LARGEST_BODY + 1)).status_code == 413

    parts = (b"x" * 100_000 for _ in range(LARGEST_BODY // 100_000 + 1))  # without a length
    assert client.post("/preferences", content=parts).status_code == 413
    assert client.get("/?" + "x" * 9_000).status_code == 414
    assert client.post("/preferences", content="&".join(["a=1"] * 300)).status_code == 400
    assert client.post("/preferences", content=b"\xff\xfe=\xff").status_code == 400


def test_an_upload_that_stops_coming_is_given_up_and_removed(hub, monkeypatch):
    monkeypatch.setattr("iddpm.ui.uploads.SLOWEST", 0.01)

    async def stalling():
        yield b"some"
        await asyncio.Event().wait()

    with pytest.raises(ValueError, match=r"nothing came for 0\.01 s"):
        asyncio.run(hub.uploads.receive("a.npz", 10**6, stalling()))
    assert not list(hub.uploads.folder.iterdir())


MALFORMED = (
    b"",
    b"\x00\xff\xfe" * 40,
    b"[" * 100_000,
    b'{"a": ' * 50_000,
    b"[]",
    b"null",
    b'"text"',
    b'{"step": [], "status": {}, "samples": 7, "total": [], "scores": 3, "files": 1, "kind": 0}',
    b'{"samples": {"recall": {"value": {}}}, "total": {"mean": "x"}, "step": -1, "items": 5}',
    b'{"scores": {"5": {"ddim, even": 1}}, "won": 2, "samples": {"recall": []}, "generated": 4}',
    b'{"step": 1, "cause": null, "items": 5}\n{"step": 2, "items": [1]}',
    b'{"step": 1' + b"0" * 400 + b', "loss": 1e999}',
)
RUN, SAMPLES = ("/", "/run?run=a"), ("/sample?run=a&samples=a", "/samples?run=a&samples=a")
FILES = {
    "exit.json": RUN,
    "log.jsonl": (*RUN, "/run/curves?run=a"),
    "bad_steps.jsonl": RUN,
    "tuned.json": ("/measure?run=a",),
    "lock": RUN,
    ".train_output.txt": RUN,
    "likelihood/a.json": ("/run?run=a", "/measure"),
    "evaluation/report.json": ("/run?run=a", "/measure"),
    "compared/a/report.json": ("/run?run=a", "/measure"),
    "samples/a/samples.json": ("/run?run=a", *SAMPLES),
    "samples/a/samples.npz": SAMPLES,
    "checkpoints/step_00000001/progress.json": RUN,
}
"""Files of a run directory, and the pages that read them."""


@pytest.mark.parametrize("name", FILES)
def test_malformed_files_of_a_run_are_no_fault(client, root, name):
    run = write_run(root / "a")
    (run / name).parent.mkdir(parents=True, exist_ok=True)
    for content in MALFORMED:
        (run / name).write_bytes(content)
        for path in FILES[name]:
            answer = client.get(path)
            assert answer.status_code < 500, (path, content[:40])
