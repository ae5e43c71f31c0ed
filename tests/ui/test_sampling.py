"""Samples of a page are those of the command line and of Python, byte for byte."""

import ast
import io
import json
import re
import shlex
from html import unescape

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.ui.actions.actions import ACTIONS
from iddpm.ui.actions.inspect_action import InspectAction
from iddpm.ui.actions.sample_action import SampleAction
from iddpm.ui.application import build_hub
from tests.conftest import TINY, images, wait_until
from tests.ui.conftest import SCRIPT, open_client


@pytest.fixture(scope="module")
def hub(trained_runs):
    hub = build_hub(trained_runs)
    yield hub
    hub.jobs.close()


def files_of(directory):
    return {p.name: p.read_bytes() for p in directory.iterdir() if p.is_file()}


def finish(hub):
    job = hub.jobs.all()[0]
    wait_until(lambda: job.ended)
    return job


FORM = {
    "run": "pictures",
    "n": "3",
    "seed": "5",
    "class_name": SCRIPT,
    "steps": "4",
    "guidance": "2",
    "guidance_low": "0.1",
    "guidance_high": "50",
    "guidance_rescale": "0.5",
    "autoguidance": "2",
    "autoguidance_scale": "1.5",
    "sampler": "ddim",
    "eta": "0.5",
    "spacing": "fitted",
    "threshold": "0.9",
    "batch_size": "2",
    "size": "8x12",
    "npz": "true",
    "checkpoint": "4",
    "ema": "none",
    "gif": "true",
}


def test_the_page_the_command_and_python_draw_the_same(hub, trained_runs, monkeypatch, tmp_path):
    client = open_client(hub)
    run = trained_runs / "pictures"
    answer = client.post("/sample", data=FORM)
    assert answer.status_code == 200
    job = finish(hub)
    assert (job.state, job.message) == ("done", "")
    assert job.pictures >= 1
    assert Image.open(io.BytesIO(client.get("/job/picture?number=1").content)).size[0] > 8
    drawn = files_of(run / "samples/seed_5")
    assert {"000002.png", "grid.png", "denoising.gif", "labels.csv", "samples.npz"} <= set(drawn)
    part = client.get("/job?number=1").text
    assert "samples%2Fseed_5%2F000002.png" in part

    shown = client.post("/sample/commands", data=FORM).text
    shell, python = (unescape(text) for text in re.findall(r"(?s)<pre[^>]*>(.*?)</pre>", shown))
    words = shlex.split(shell)
    assert words[0] == "iddpm"
    assert command(words[1:]) == 0
    again = files_of(run / "samples/seed_5")
    assert again == drawn

    monkeypatch.chdir(tmp_path)
    scope = {}
    exec(python, scope)
    iddpm.save_grid(scope["x"], tmp_path / "expected.png")
    assert (tmp_path / "grid.png").read_bytes() == drawn["grid.png"]


def test_samples_are_drawn_for_paired_data_that_was_sent(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", images(24))
    np.save(tmp_path / "y.npy", 255 - images(24))
    settings = [*TINY, "training.steps=1", f"data.given={tmp_path / 'y.npy'}"]
    run = tmp_path / "runs/paired"
    iddpm.train(tmp_path / "x.npy", out=run, settings=settings, reporter=SilentReporter())
    hub = build_hub(tmp_path / "runs")
    client = open_client(hub)
    assert 'data-upload="given"' in client.get("/sample?run=paired").text
    np.save(tmp_path / "two.npy", images(2))
    sent = client.put(
        "/upload", params={"name": "two.npy"}, content=(tmp_path / "two.npy").read_bytes()
    )
    form = {"run": "paired", "n": "3", "steps": "2", "given": sent.json()["name"]}
    assert client.post("/sample", data=form | {"given": "upload/../x.npy"}).status_code == 404
    assert client.post("/sample", data=form).status_code == 200
    job = finish(hub)
    assert job.state == "done", job.message
    drawn = files_of(run / "samples/seed_0")
    words = shlex.split(job.action.command(run))
    assert words[words.index("--given") + 1].endswith("/two.npy")
    assert command(words[1:]) == 0
    assert files_of(run / "samples/seed_0") == drawn
    scope = {}
    monkeypatch.chdir(tmp_path)
    exec(job.action.python(run), scope)
    pixels = ((scope["x"] + 1) * 127.5).round().to(int)
    shown = np.asarray(Image.open(run / "samples/seed_0/000002.png"), dtype=int)
    assert np.abs(pixels[2, 0].numpy() - shown).max() <= 1
    hub.jobs.close()


def test_the_model_stays_open_and_a_wrong_class_is_a_message(hub, trained_runs):
    client = open_client(hub)
    assert (
        client.post("/sample", data={"run": "pictures", "n": "1", "steps": "2"}).status_code == 200
    )
    assert finish(hub).state == "done"
    client.post("/sample", data={"run": "pictures", "class_name": "none such"})
    job = finish(hub)
    assert job.state == "failed"
    assert "none such" in job.message
    assert "none such" in client.get(f"/job?number={job.number}").text
    manifest = json.loads((trained_runs / "pictures/samples/seed_0/samples.json").read_text())
    assert manifest["made"]["samples"] == 1  # nothing of the job that failed


def test_the_data_of_a_run_is_drawn(hub, trained_runs):
    client = open_client(hub)
    assert client.post("/run/inspect", data={"run": "pictures"}).status_code == 303
    job = finish(hub)
    assert job.state == "done", job.message
    assert any(line.startswith("found") for line in job.lines)
    assert "path=data.png" in client.get("/run?run=pictures").text
    drawn = (trained_runs / "pictures/data.png").read_bytes()
    words = shlex.split(InspectAction(run="pictures").command(trained_runs / "pictures"))
    assert command(words[1:]) == 0
    assert (trained_runs / "pictures/data.png").read_bytes() == drawn


@pytest.mark.parametrize(
    "wrong",
    [
        {"n": "0"},
        {"n": "5000"},
        {"n": "x"},
        {"seed": "1e9"},
        {"steps": "0"},
        {"guidance": "nan"},
        {"sampler": "none"},
        {"name": "../x"},
        {"name": "a/b"},
        {"name": ".x"},
        {"more": "1"},
        {"ema_length": "2"},
        {"guidance_rescale": "2"},
        {"size": "8x"},
        {"threshold": "0"},
        {"class_name": "x" * 2000},
    ],
)
def test_a_wrong_field_is_named(hub, wrong):
    client = open_client(hub)
    before = len(hub.jobs.all())
    answer = client.post("/sample", data={"run": "pictures"} | wrong)
    assert answer.status_code == 400
    assert next(iter(wrong)) in answer.text
    assert len(hub.jobs.all()) == before


def test_a_class_cannot_become_an_option_or_a_shell_command(trained_runs):
    action = SampleAction(run="pictures", class_name="$(rm -rf x); --out=/tmp")
    line = action.command(trained_runs / "pictures")
    assert shlex.split(line)[-1] == "$(rm -rf x); --out=/tmp"
    assert "run.sample(16, seed=0, classes='$(rm -rf x); --out=/tmp'" in action.python(trained_runs)


@pytest.mark.parametrize("kind", ACTIONS)
def test_the_lines_of_python_are_python_and_the_words_are_a_command(trained_runs, kind):
    hostile = "a'b\"c\n)"
    names = ("item", "other", "mask", "file", "out", "path", "class_name", "checkpoint", "given")
    names += ("generated",)
    fields = ACTIONS[kind].model_fields
    values = {name: hostile for name in names if name in fields}
    action = ACTIONS[kind].model_validate({"run": "pictures", **values})
    tree = ast.parse(action.python(trained_runs / "pictures"))
    texts = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)}
    assert not values or hostile in texts
    words = shlex.split(action.command(trained_runs / "pictures"))
    assert words[0] == "iddpm"
    assert not values or hostile in words
    assert words[1] in {*ACTIONS, "data"}
