"""The command itself: its first line, its end, and trainings that outlive it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from iddpm.cli.main import run as command
from iddpm.runtime.directory_lock import holder
from iddpm.training.checkpoints.checkpoint import list_checkpoints
from iddpm.ui.event_stream import MOST_WATCHERS
from tests.conftest import TINY, wait_until

pytestmark = pytest.mark.system


@pytest.fixture
def start(tmp_path):
    processes = []

    def start(*options):
        words = [sys.executable, "-m", "iddpm", "ui", str(tmp_path / "runs"), "--no-browser"]
        process = subprocess.Popen(
            [*words, "--port", "0", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"COLUMNS": "20"},
        )
        processes.append(process)
        return process, process.stdout.readline()

    yield start
    for process in processes:
        process.kill()
        process.communicate()


class Browser:
    """Keeps the cookie."""

    def __init__(self, url):
        self.base = url.partition("/?")[0]
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        assert self.opener.open(url).status == 200

    def get(self, path):
        return self.opener.open(self.base + path).read().decode()

    def post(self, path, data):
        return self.opener.open(self.base + path, data.encode()).read().decode()


def test_the_address_stands_alone_on_the_first_line_and_ctrl_c_ends_it(start):
    process, line = start()
    assert line.startswith("http://127.0.0.1:")
    assert "/?token=" in line
    assert len(line.strip().split()) == 1
    url = line.strip()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(url.partition("?")[0])
    browser = Browser(url)
    events = browser.opener.open(browser.base + "/events")  # an open page holds nothing up
    assert events.readline().startswith(b"retry")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0
    assert err == ""
    assert "token" not in out


def test_another_host_is_warned_of(start):
    process, line = start("--host", "0.0.0.0")
    assert line.startswith(f"http://{socket.gethostname()}:")
    assert "warning: listening on 0.0.0.0" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate()


def test_a_port_in_use_is_an_error(tmp_path, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert command(["ui", str(tmp_path), "--port", port, "--no-browser"]) == 2
    assert "--port" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert command(["ui", str(tmp_path / "file")]) == 2


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys, tmp_path):
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "fastapi" else find(name)
    )
    assert command(["ui", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: iddpm ui needs fastapi: pip install 'iddpm[ui]'\n"


def test_a_training_goes_on_when_the_server_is_killed_and_the_next_one_stops_it(
    start, tmp_path, array_file
):
    run = tmp_path / "runs" / "a"
    settings = [part for text in (*TINY, "training.save_every=1000000") for part in ("-s", text)]
    words = ["train", str(array_file), *settings, "--steps", "2", "--out", str(run)]
    assert command(words) == 0
    process, line = start()
    browser = Browser(line.strip())
    browser.post("/run/resume", "run=a&steps=100000000")
    wait_until(lambda: holder(run) is not None)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        browser.post("/run/resume", "run=a")
    process.kill()
    process.wait()
    trained = (run / "log.jsonl").stat().st_size
    wait_until(lambda: (run / "log.jsonl").stat().st_size > trained)  # it goes on
    _, line = start()
    browser = Browser(line.strip())
    assert 'class="state training"' in browser.get("/run?run=a")
    browser.post("/run/stop", "run=a")
    wait_until(lambda: holder(run) is None)
    assert json.loads((run / "exit.json").read_text())["reason"] == "stopped by SIGINT"
    assert list_checkpoints(run)[-1].name > "step_00000002"
    wait_until(lambda: 'class="state stopped"' in browser.get("/run?run=a"))  # the process ends
    with pytest.raises(urllib.error.HTTPError, match="400"):
        browser.post("/run/stop", "run=a")


def test_a_training_that_cannot_start_is_explained(start, tmp_path, array_file):
    run = tmp_path / "runs" / "a"
    settings = [part for text in TINY for part in ("-s", text)]
    assert command(["train", str(array_file), *settings, "--steps", "1", "--out", str(run)]) == 0
    array_file.unlink()
    process, line = start()
    browser = Browser(line.strip())
    browser.post("/run/resume", "run=a&steps=5")
    wait_until(lambda: "pictures.npz" in browser.get("/run/head?run=a") or time.sleep(0.2))
    process.kill()
    process.wait()
    _, line = start()
    assert "pictures.npz" in Browser(line.strip()).get("/run/head?run=a")


def test_many_idle_connections_and_slow_ones_hold_nobody_up(start):
    _, line = start()
    browser = Browser(line.strip())
    port = int(browser.base.rpartition(":")[2])
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for connection in idle[:100]:
        connection.sendall(
            b"POST /sample HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Le"
        )  # no more comes
    for connection in idle[100:120]:
        connection.sendall(b"\x00\xff malformed\r\n\r\n")
    streams = [browser.opener.open(browser.base + "/events") for _ in range(MOST_WATCHERS)]
    assert all(stream.readline() == b"retry: 2000\n" for stream in streams)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        browser.opener.open(browser.base + "/events")
    assert "No runs here yet" in browser.get("/")
    for open_one in (*idle, *streams):
        open_one.close()


def children_of(process):
    """Return the numbers of what any thread has started; a device's thread starts its worker."""
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [number for each in lists for number in each.read_text().split()]


def has_ended(number):
    """Say whether no thread is left, whose last file may be on its way; a zombie may stay."""
    return not any(Path(f"/proc/{number}/task").glob("*/exe"))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc, as Linux has it")
def test_a_job_ends_with_a_server_that_is_killed_and_leaves_whole_files(
    start, tmp_path, trained_runs
):
    run = tmp_path / "runs" / "pictures"
    shutil.copytree(trained_runs / "pictures", run)
    process, line = start()
    browser = Browser(line.strip())
    browser.post("/sample", "run=pictures&n=4096&steps=50&name=many")
    many = run / "samples" / "many"
    wait_until(lambda: (many / "000000.png").exists())
    workers = children_of(process)
    assert workers
    process.kill()
    process.wait()
    wait_until(lambda: all(map(has_ended, workers)))
    assert json.loads((many / "samples.json").read_text())["complete"] is False
    for path in many.glob("*.png"):
        Image.open(path).load()
    _, line = start()
    assert "incomplete" in Browser(line.strip()).get("/run?run=pictures")
