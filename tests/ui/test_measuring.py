"""Measurements of the page that are tables of their own: samplers, nearest training items."""

import json
import re
import shlex
import shutil

import pytest

from iddpm.cli.main import run as command
from iddpm.evaluation.tuning import Score
from iddpm.tasks import tune
from iddpm.tasks.tune import TuneRequest
from iddpm.ui.actions.action import Bench
from iddpm.ui.actions.measure_actions import TuneAction
from iddpm.ui.application import build_hub
from iddpm.ui.pages.measure_page import METHODS
from tests.conftest import wait_until
from tests.ui.conftest import open_client


@pytest.fixture
def hub(trained_runs):
    hub = build_hub(trained_runs)
    yield hub
    hub.jobs.close()


def test_samplers_are_compared_and_what_was_found_is_listed(hub, trained_runs, monkeypatch):
    client, runs = open_client(hub), trained_runs
    form = {"run": "pictures", "kind": "tune", "n": "100", "evaluations": "2,4"}
    shown = client.post("/measure/commands", data=form).text
    assert "-n 100 --evaluations 2,4 --features pca" in shown
    assert "Takes about" in shown
    assert client.post("/measure", data=form | {"evaluations": "2;4"}).status_code == 400
    assert len(tune.GRID) == METHODS
    asked = []

    def measured(run, request, console):
        asked.append((run, request))
        score = Score(0.25, 0.01, 0.5, 0.75, 1.0).as_dict()
        facts = {"scores": {"2": {"ipndm, karras": score, "er_sde, fitted": score | {"score": 1}}}}
        path = runs / "pictures/tuned.json"
        path.write_text(json.dumps(facts | {"won": {"2": ["ipndm", "karras"]}}))
        return tune.Tuned({}, {}, path)

    monkeypatch.setattr(tune, "tune", measured)
    bench = Bench(runs, None, lambda path: path, None)
    action = TuneAction.read({name: form[name] for name in ("run", "n", "evaluations")})
    written = action.perform(bench, runs / "pictures")
    assert asked == [(runs / "pictures", TuneRequest(100, [2, 4]))]
    page = client.get("/measure").text
    written[0].unlink()
    row = re.search(r'(?s)<th scope="row">ipndm, karras</th>(.*?)</tr>', page)[1]
    assert re.findall(r">([\d.]+)", row) == ["0.25", "0.5", "0.75", "1", "0.347"]
    assert "chosen" in row
    assert "er_sde, fitted" not in page  # it is damaged


@pytest.mark.parametrize("alone", [False, True])
def test_the_nearest_training_items_of_a_sample_are_shown(hub, trained_runs, alone):
    run, client = trained_runs / "pictures", open_client(hub)
    out = run / "samples/near"
    words = ["sample", str(run), "-n", "2", "--steps", "2", "--out", str(out)]
    assert command(words) == 0
    form = {"run": "pictures", "samples": "near", "number": "1"}
    if alone:  # as of an edit: no list says which files are items
        (out / "samples.json").unlink()
    assert 'hx-post="/item/nearest"' in client.get("/item", params=form).text
    assert client.post("/item/nearest", data=form).status_code == 200
    job = hub.jobs.all()[0]
    wait_until(lambda: job.ended)
    assert job.state == "done", job.message
    part = client.get(f"/job?number={job.number}").text
    assert f"/job/file?number={job.number}&amp;place=0" in part
    assert "Too few items are held out" in part
    report = job.files[-1].read_text()
    assert part.count("<tr><td>") == len(json.loads(report)["neighbors"]) == 5
    assert command(shlex.split(job.action.command(run))[1:]) == 0
    assert job.files[-1].read_text() == report
    assert job.action.number == (None if alone else 1)
    shutil.rmtree(out)
    for wrong in ({"number": "x"}, {"samples": "none"}, {"run": ".."}):
        client.post("/item/nearest", data=form | wrong)
    wait_until(lambda: all(job.ended for job in hub.jobs.all()))
    assert len(hub.jobs.all()) == 1
