"""The pages say what the files say."""

import ast
import fcntl
import io
import json
import os
import re
import shlex
import zipfile
from html import unescape

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

import iddpm
from iddpm.cli.main import run as command
from iddpm.runtime.directory_lock import DirectoryLock
from iddpm.tasks.summary import summarize
from iddpm.ui.application import build_hub
from iddpm.ui.run_index import RunIndex
from iddpm.ui.sample_sets import kind_of
from iddpm.ui.training_processes import OUTPUT
from tests.ui.conftest import SCRIPT, open_client, record_line, write_run

FAILED = {"status": 2, "reason": "failed", "step": 30}


def text_of(html):
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", html))


def test_without_runs_the_page_says_how_to_make_one(client, root):
    page = client.get("/").text
    assert "No runs here yet" in page
    assert f"iddpm demo --out {root}/demo" in page
    assert "No run has a checkpoint yet" in client.get("/sample").text


def test_every_state_is_shown_with_its_reason(client, root):
    write_run(root / "going")
    write_run(root / "done", status=0, reason="finished", step=30, message="x")
    write_run(root / "late", status=0, reason="time is up", step=30, message="saved at 30")
    write_run(root / "stopped", status=130, reason="stopped by SIGINT", step=30, message="saved")
    write_run(root / "bad", status=1, reason="diverged", step=30, message="the loss is not finite")
    (write_run(root / "killed") / "lock").write_text("process 1 on here\n")
    write_run(root / "fresh", 0)
    (write_run(root / "broken") / "config.yaml").write_text("model: [")
    with DirectoryLock(root / "going"):
        page = client.get("/").text
    rows = dict(re.findall(r'(?s)href="/run\?run=(\w+)".*?class="state (\w+)"', page))
    assert page.index("run=going") < page.index("run=done")
    assert rows == {
        "going": "training",
        "done": "finished",
        "late": "stopped",
        "stopped": "stopped",
        "bad": "failed",
        "killed": "failed",
        "fresh": "new",
        "broken": "damaged",
    }
    for name, why in {
        "bad": "diverged: the loss is not finite",
        "killed": "without a record",
        "broken": "not readable as YAML",
        "late": "time is up",
    }.items():
        assert why in client.get(f"/run?run={name}").text
    assert "step 30 of 1,000" in text_of(client.get("/").text)


def test_a_distilled_run_is_offered_what_it_was_made_for(client, root):
    run = write_run(root / "few")
    made = "distillation: {weights: x}\nsampling: {steps: 2}\ndiffusion: {predicts: v}\n"
    with (run / "config.yaml").open("a") as file:
        file.write(made)
    save_file({"x": np.zeros(1)}, run / "model.safetensors")
    assert "Frechet distance" in client.get("/run?run=few").text
    for path, field in (("sample", "steps"), ("measure", "evaluate-steps")):
        page = client.get(f"/{path}?run=few").text
        assert "Held-out loss" not in page
        offered = re.search(rf'<select id="{field}" name="steps">(.*?)</select>', page)[1]
        assert re.findall("<option ?(selected)?>([0-9]+)", offered) == [
            ("", "1"),
            ("selected", "2"),
            ("", "4"),
        ]
    assert 'name="sampler"' not in client.get("/sample?run=few").text
    assert "few" not in client.get("/edit").text


def test_why_a_training_did_not_start_is_read_from_what_it_printed(hub, client, root):
    """Also by another server, for which no process is its own."""
    run, now = write_run(root / "a", status=0, reason="finished", step=30, message="done"), 2e9
    says = "error: photos/ is not there"
    for name, text in {"a": f"opening\n{says}\n", "fresh": f"{says}\n", "cut": "opening\n"}.items():
        (root / name).mkdir(exist_ok=True)
        (root / name / OUTPUT).write_text(text)
        os.utime(root / name / OUTPUT, (now, now))
    page = client.get("/").text
    assert page.count(says) == 2
    assert "It ended before the training began." in page
    assert says in client.get("/run?run=a").text
    assert says in client.get("/train/started?name=fresh").text
    with open(root / "fresh" / OUTPUT) as held:  # by a process that goes on
        fcntl.flock(held, fcntl.LOCK_EX)
        assert hub.trainings.is_starting(root / "fresh")
        assert client.get("/").text.count(says) == 1
        with pytest.raises(ValueError, match="stop it first"):
            hub.trainings.start(root / "fresh", ["--version"])
    (run / "exit.json").write_text(json.dumps({**FAILED, "message": says.removeprefix("error: ")}))
    assert client.get("/run?run=a").text.count("photos/ is not there") == 1
    os.utime(run / "log.jsonl", (now + 1, now + 1))  # it was trained since
    (run / "exit.json").unlink()
    assert says not in client.get("/run?run=a").text
    (root / "fresh" / OUTPUT).unlink()
    os.symlink("/etc/passwd", root / "fresh" / OUTPUT)
    assert "root:" not in client.get("/").text + client.get("/train/started?name=fresh").text


def test_commands_to_copy_are_quoted_and_go_on_to_the_step_that_is_offered(client, root):
    write_run(root / "a; rm -rf x", status=0, reason="finished", step=30, message="x")
    page = unescape(client.get("/run", params={"run": "a; rm -rf x"}).text)
    shell, python, info, _ = re.findall(r"(?s)<pre[^>]*>(.*?)</pre>", page)
    words = shlex.split(shell)
    wanted = ["iddpm", "train", "--resume", "--out", str(root / "a; rm -rf x"), "--steps", "1000"]
    assert words == wanted
    assert shlex.split(info) == ["iddpm", "info", str(root / "a; rm -rf x")]
    (call,) = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call)]
    given = {each.arg: ast.literal_eval(each.value) for each in call.keywords}
    assert given == {"out": wanted[4], "resume": True, "settings": ["training.steps=1000"]}


def test_the_held_out_loss_stands_above_the_curves(client, root):
    write_run(
        root / "a",
        status=130,
        reason="stopped by SIGINT",
        step=30,
        message="stopped by SIGINT at 30",
    )
    page = text_of(client.get("/run?run=a").text)
    assert "Held-out loss 0.5 " in page
    assert page.count("stopped by SIGINT") == 1


def test_runs_are_found_at_any_depth_and_folders_of_runs_are_not(root):
    for name in (
        "a",
        "b/c",
        "b/d/e",
        "a/classifier",
        "x/y/z/w/too_deep",
        "a/samples/not",
        ".hidden",
    ):
        write_run(root / name)
    assert RunIndex(root).names() == ["a", "a/classifier", "b/c", "b/d/e"]
    assert RunIndex(root / "a").names() == [".", "classifier"]
    assert RunIndex(root / "a").facts(".").step == 30


def test_the_facts_of_a_long_log_are_those_of_info(root):
    run = write_run(root / "a", 0, status=1, reason="diverged", step=9, message="x")
    (run / "log.jsonl").write_text("".join(map(record_line, range(1, 2001))))
    (run / "best").write_text("step_00000300\n")
    whole, shown = summarize(run), dict(RunIndex(root).facts("a").facts)
    for facts in (whole, shown):
        facts.pop("record_age")
    assert whole["best"] == {
        "checkpoint": "step_00000300",
        "held_out_loss": 1.5 / 30,
        "held_out_measure": "held-out loss",
    }
    assert shown == whole


def test_the_kinds_of_samples(trained_runs):
    config = RunIndex(trained_runs).facts("pictures").config
    sound = config.form.model_copy(update={"kind": "signal"})
    clip = config.form.model_copy(update={"kind": "clip"})
    for shape, form, kind in (
        ((1, 64), config.form, "signal"),
        ((1, 64), sound, "sound"),
        ((1, 8, 8, 8), config.form, "volume"),
        ((3, 8, 8, 8), clip, "clip"),
        ((3, 8, 8), config.form, "picture"),
    ):
        model = config.model.model_copy(update={"channels": shape[0], "size": shape[1:]})
        changed = config.model_copy(update={"model": model, "form": form})
        assert kind_of(changed) == kind


def test_the_curves_are_those_of_the_log(client, root):
    path = write_run(root / "a", 0) / "log.jsonl"
    path.write_text("".join(map(record_line, range(1, 5001))))
    found = client.get("/run/curves?run=a").json()["runs"][0]
    assert found["count"] == 5000
    assert len(found["step"]) == len(found["loss"]) == 2000
    assert max(v for v in found["loss"] if v is not None) == 1
    assert found["step"][-1] == 50_000
    part = client.get("/run/curves?run=a&from=100&to=200").json()["runs"][0]
    assert part["step"] == list(range(100, 201, 10))
    assert part["loss"] == [float(f"{10 / s:.6g}") for s in part["step"]]
    assert [v for v in part["held_out_loss"] if v] == [
        float(f"{15 / s:.6g}") for s in (120, 150, 180)
    ]
    smooth = client.get("/run/curves?run=a&from=100&to=100&smooth=5").json()["runs"][0]
    assert smooth["loss"] == [float(f"{np.mean([1 / k for k in range(6, 11)]):.6g}")]
    write_run(root / "b")
    both = client.get("/run/curves?run=a&beside=b").json()["runs"]
    assert [run["name"] for run in both] == ["a", "b"]
    assert both[1]["step"] == [10, 20, 30]
    for query in ("smooth=0", "smooth=x", "from=x"):
        assert client.get(f"/run/curves?run=a&{query}").status_code == 400


@pytest.fixture
def pages(trained_runs):
    hub = build_hub(trained_runs)
    yield open_client(hub)
    hub.jobs.close()


def test_a_trained_run_has_its_pictures_checkpoints_and_settings(pages):
    page = pages.get("/run?run=pictures").text
    assert "finished" in text_of(page)
    assert "step_00000004" in page
    assert "samples%2Fstep_00000002.png" in page
    rows = re.findall(r'(?s)<tr class="differs">.*?<code>(.*?)</code>.*?<code>(.*?)</code>', page)
    assert ("model.model_channels", "8") in rows
    assert ("training.steps", "4") in rows
    assert "training.weight_decay" not in dict(rows)
    picture = pages.get("/file", params={"run": "pictures", "path": "samples/step_00000002.png"})
    assert picture.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(picture.content)).size[0] > 8
    assert f"iddpm {iddpm.__version__}" in pages.get("/").text


def test_samples_are_listed_shown_kept_and_downloaded(pages, trained_runs):
    words = ["sample", str(trained_runs / "pictures"), "-n", "5", "--steps", "3", "--gif"]
    assert command([*words, "--out", str(trained_runs / "pictures/samples/five")]) == 0
    page = pages.get("/sample?run=pictures&samples=five").text
    assert "5 samples" in text_of(page)
    assert SCRIPT not in page
    assert "&lt;img src=x" in page  # the class
    query = {"run": "pictures", "samples": "five"}
    item = pages.get("/item", params=query | {"number": 2}).text
    assert 'data-frames="4"' in item
    way = pages.get("/item/way", params=query | {"number": 2, "frame": 3})
    last = np.asarray(Image.open(io.BytesIO(way.content)).convert("L"), dtype=int)
    file = trained_runs / "pictures/samples/five/000002.png"
    sample = np.asarray(Image.open(file), dtype=int)
    assert np.abs(last[::8, ::8] - sample).max() <= 8  # the colors of a GIF
    for wrong in ({"number": 5, "frame": 0}, {"number": 0, "frame": 4}):
        assert pages.get("/item/way", params=query | wrong).status_code == 404
    kept = pages.post("/keep", data=query | {"number": "2"})
    assert "samples/kept/five_000002.png" in kept.text
    copy = trained_runs / "pictures/samples/kept/five_000002.png"
    assert copy.read_bytes() == file.read_bytes()
    archive = zipfile.ZipFile(io.BytesIO(pages.get("/samples.zip", params=query).content))
    assert {"five/000000.png", "five/grid.png", "five/samples.json"} <= set(archive.namelist())
    assert archive.read("five/000002.png") == file.read_bytes()


def test_signals_and_volumes_are_looked_at(signal_and_volume):
    runs = signal_and_volume
    for name in ("signals", "volumes"):
        assert command(["sample", str(runs / name), "-n", "2", "--steps", "2"]) == 0
    hub = build_hub(runs)
    pages = open_client(hub)
    query = {"samples": "seed_0", "number": 1}
    signal = pages.get("/item/values", params={"run": "signals", **query}).json()
    stored = np.load(runs / "signals/samples/seed_0/samples.npz")["arr_0"][1]
    np.testing.assert_allclose(np.array(signal["channels"]).T, stored, atol=1e-4)
    part = pages.get(
        "/item/values", params={"run": "signals", "from": 10, "to": 20, **query}
    ).json()
    assert part["at"] == list(range(10, 20))
    empty = {"run": "signals", "from": 20, "to": 10, **query}
    assert pages.get("/item/values", params=empty).json()["at"] == []
    volume = pages.get("/item/values", params={"run": "volumes", **query})
    assert volume.headers["x-shape"] == "1,8,8,8"
    stored = np.load(runs / "volumes/samples/seed_0/samples.npz")["arr_0"][1, ..., 0]
    levels = np.frombuffer(volume.content, np.uint8).reshape(8, 8, 8)
    np.testing.assert_allclose(levels / 127.5 - 1, stored.clip(-1, 1), atol=0.01)
    for name, word in (("signals", "data-signal"), ("volumes", "data-volume")):
        assert word in pages.get("/item", params={"run": name, **query}).text
        picture = pages.get("/item/picture", params={"run": name, **query})
        assert Image.open(io.BytesIO(picture.content)).size[0] > 20
        assert 'class="items ' in pages.get(f"/samples?run={name}&samples=seed_0").text
    hub.jobs.close()


def test_what_was_measured_is_listed(client, root):
    run = write_run(root / "a")
    (run / "likelihood").mkdir()
    (run / "evaluation").mkdir()
    total = {"mean": 3.2101, "error": 0.02}
    (run / "likelihood/held_out.json").write_text(json.dumps({"unit": "bits/dim", "total": total}))
    (run / "likelihood/damaged.json").write_text("{")
    report = {"samples": {"frechet_distance": {"value": 12.5, "error": None}, "recall": 0.75}}
    (run / "evaluation/report.json").write_text(json.dumps(report | {"frechet_name": "Frechet"}))
    page = text_of(client.get("/run?run=a").text)
    assert "3.21 ± 0.02 bits/dim" in page
    assert "Frechet distance Frechet 12.5" in page
    assert "recall 0.75" in page


def test_the_language_and_the_colors_are_kept(client):
    assert '<html lang="en" data-theme="auto">' in client.get("/").text
    answer = client.post("/preferences", data={"language": "zh", "back": "/queue"})
    assert answer.headers["location"] == "/queue"
    client.post("/preferences", data={"theme": "dark"})
    page = client.get("/").text
    assert '<html lang="zh-Hans" data-theme="dark">' in page
    assert "这里还没有训练" in page
    for wrong in ({"language": "../en"}, {"theme": "x"}):
        assert client.post("/preferences", data=wrong).status_code == 400
    for back in ("//evil.example", "http://evil.example", "/\\evil.example"):
        answer = client.post("/preferences", data={"theme": "light", "back": back})
        assert answer.headers["location"] == "/"


def test_errors_are_pages_without_a_trace(client, hub, monkeypatch, capsys):
    assert client.get("/run?run=none").status_code == 404
    assert client.get("/none").status_code == 404
    assert client.get("/item?run=a").status_code == 400
    monkeypatch.setattr(type(hub.index), "names", lambda self: 1 / 0)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in capsys.readouterr().err
