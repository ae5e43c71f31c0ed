"""Editing, upscaling, measuring and training from the pages, against the command line."""

import copy
import io
import json
import re
import shlex
import shutil
import zipfile
from html import unescape

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.runtime.directory_lock import holder
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.ui import uploads
from iddpm.ui.application import build_hub
from iddpm.ui.setting_fields import setting_fields
from tests.conftest import TINY, images, wait_until
from tests.ui.conftest import SCRIPT, open_client


@pytest.fixture(scope="module")
def runs(tmp_path_factory, trained_runs):
    """The trained run, and one of super-resolution beside it, in a directory of their own."""
    root = tmp_path_factory.mktemp("editing")
    np.save(root / "x.npy", images(24))
    settings = [*TINY, "training.steps=1", "task=super_resolution", "scale=2"]
    reporter = SilentReporter()
    iddpm.train(root / "x.npy", out=root / "runs/finer", settings=settings, reporter=reporter)
    shutil.copytree(trained_runs / "pictures", root / "runs/pictures")
    return root / "runs"


@pytest.fixture(scope="module")
def hub(runs):
    hub = build_hub(runs)
    yield hub
    hub.jobs.close()


HTMX = {"hx-request": "true"}


@pytest.fixture
def client(hub):
    return open_client(hub)


def finish(hub):
    job = hub.jobs.all()[0]
    wait_until(lambda: job.ended)
    assert job.state == "done", job.message
    return job


def shown_command(hub, client, job):
    rows = client.get("/queue/rows").text
    row = rows.partition(f'data-job-row="{job.number}"')[2]
    return shlex.split(unescape(re.search(r"(?s)<pre[^>]*>(iddpm .*?)</pre>", row)[1]))


def pictures_of(directory):
    return {path.name: path.read_bytes() for path in directory.glob("*.png")}


def send(client, name, content):
    answer = client.put("/upload", params={"name": name}, content=content)
    assert answer.status_code == 200, answer.text
    return answer.json()["name"]


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["inpaint", "edit", "interpolate"])
def test_an_item_is_edited_as_by_the_command(hub, client, runs, kind):
    picture = io.BytesIO()
    Image.fromarray(images(1)[0, ..., 0]).save(picture, "PNG")
    item = send(client, "my picture.png", picture.getvalue())
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 1
    form = {"run": "pictures", "kind": kind, "item": item, "other": "0", "n": "2", "seed": "3",
            "steps": "4", "class_name": SCRIPT, "frames": "3", "strength": "0.4"}  # fmt: skip
    if kind == "inpaint":
        form["mask"] = send(client, "mask.npy", npy(mask))
    answer = client.post("/edit", data=form)
    assert answer.status_code == 200, answer.text
    job = finish(hub)
    folder = runs / "pictures/samples" / job.action.folder
    drawn = pictures_of(folder)
    assert {"before_after.png", "000001.png"} <= set(drawn)
    part = client.get(f"/job?number={job.number}").text
    assert f"samples%2F{job.action.folder}%2F000001.png" in part
    words = shown_command(hub, client, job)
    assert words[:2] == ["iddpm", kind]
    shown = client.post("/edit/commands", data=form).text
    assert words == shlex.split(unescape(re.search(r"(?s)<pre[^>]*>(.*?)</pre>", shown)[1]))
    assert command(words[1:]) == 0
    assert pictures_of(folder) == drawn
    assert (job.pictures > 0) == (kind != "interpolate")  # versions were shown on their way
    place = {"run": "pictures", "samples": job.action.folder, "number": "1"}
    values = np.frombuffer(client.get("/item/values", params=place).content, np.uint8)
    np.testing.assert_array_equal(
        values.reshape(8, 8), np.asarray(Image.open(folder / "000001.png"))
    )
    if kind == "inpaint":
        kept = np.asarray(Image.open(folder / "000001.png"))[:4]
        np.testing.assert_array_equal(kept, images(1)[0, :4, :, 0])


def test_a_file_is_filled_in_at_its_own_size(hub, client, runs):
    picture = io.BytesIO()
    Image.fromarray(images(1, 12)[0, ..., 0]).save(picture, "PNG")
    item = send(client, "large.png", picture.getvalue())
    place = {"run": "pictures", "item": item}
    assert client.get("/edit/values", params=place).headers["x-shape"] == "1,8,8"
    own = client.get("/edit/values", params=place | {"tiled": "true"})
    assert own.headers["x-shape"] == "1,12,12"
    assert 'name="tiled" value="true"' in client.get("/edit", params=place | {"tiled": "1"}).text
    mask = np.zeros((12, 12), np.uint8)
    mask[6:] = 1
    form = place | {"kind": "inpaint", "tiled": "true", "mask": send(client, "m.npy", npy(mask))}
    form |= {"n": "1", "steps": "3", "guidance": "2", "class_name": "plain", "jump": "2"}
    assert client.post("/edit", data=form | {"spacing": "even"}).status_code == 200
    job = finish(hub)
    drawn = pictures_of(runs / "pictures/samples/inpainting")["000000.png"]
    place = {"run": "pictures", "samples": "inpainting", "number": "0"}
    found = np.frombuffer(client.get("/item/values", params=place).content, np.uint8)
    np.testing.assert_array_equal(found.reshape(12, 12)[:6], images(1, 12)[0, :6, :, 0])
    assert command(shown_command(hub, client, job)[1:]) == 0
    assert pictures_of(runs / "pictures/samples/inpainting")["000000.png"] == drawn


def test_an_item_is_restored_as_by_the_command(client, hub, runs):
    form = {"run": "pictures", "kind": "restore", "item": "0", "simulate": "true", "n": "1",
            "operator": "downscale", "factor": "2x2", "width": "1", "steps": "3"}  # fmt: skip
    shown = client.post("/edit/commands", data=form).text
    assert "--operator downscale --factor 2x2" in shown
    assert "--width" not in shown  # which another operator takes
    assert client.post("/edit", data=form | {"class_name": "plain"}).status_code == 200
    job = finish(hub)
    drawn = pictures_of(job.files[0].parent)
    assert {"000000.png", "comparison.png"} <= set(drawn)
    assert client.get(f"/job?number={job.number}").text.count("/job/file") >= 2
    words = shown_command(hub, client, job)
    words[words.index("--out") + 1] = str(runs.parent / "restored")
    assert command(words[1:]) == 0
    assert pictures_of(runs.parent / "restored") == drawn
    for wrong in ({"operator": "none"}, {"factor": "0"}, {"width": "0"}, {"noise": "-1"}):
        assert client.post("/edit", data=form | wrong).status_code == 400, wrong


def test_the_versions_of_a_signal_are_listed(client, hub, runs, signal_and_volume):
    if not (runs / "signals").exists():
        shutil.copytree(signal_and_volume / "signals", runs / "signals")
    form = {"run": "signals", "kind": "edit", "item": "0", "n": "2", "steps": "2"}
    assert client.post("/edit", data=form).status_code == 200
    job = finish(hub)
    part = client.get(f"/job?number={job.number}").text
    assert part.count('hx-get="/item?') == 2
    place = {"run": "signals", "samples": "edit", "number": "1"}
    assert client.get("/item/values", params=place).json()["length"] == 64
    shown = client.post("/edit/commands", data=form | {"kind": "inpaint"}).text
    assert "--mask mask.npy" in shown  # before one is drawn
    assert client.post("/edit", data=form | {"kind": "inpaint"}).status_code == 400


def test_items_are_numbers_samples_and_files_of_ours_and_no_others(client, runs):
    query = {"run": "pictures", "item": "0"}
    values = client.get("/edit/values", params=query)
    assert values.headers["x-shape"] == "1,8,8"
    assert client.get("/edit", params=query).status_code == 200
    assert client.get("/edit/picture", params=query).headers["content-type"] == "image/png"
    outside = runs.parent / "x.npy"
    for item in (str(outside), "upload/../../x.npy", "samples/../../../x.npy", "upload/", "-1",
                 "x.npy", "999", "upload/none/x.png"):  # fmt: skip
        for path in ("/edit/values", "/edit/picture"):
            answer = client.get(path, params=query | {"item": item})
            assert answer.status_code in (400, 404), (path, item)
        if not item.isdecimal():
            form = {"run": "pictures", "kind": "edit", "item": item}
            assert client.post("/edit", data=form).status_code in (400, 404)
    form = {"run": "pictures", "kind": "inpaint", "item": "0", "mask": str(outside)}
    assert client.post("/edit", data=form).status_code == 404
    assert client.post("/edit", data={"run": "pictures", "kind": "none"}).status_code == 400


def test_a_file_is_upscaled_as_by_the_command(hub, client, runs):
    picture = io.BytesIO()
    Image.fromarray(images(1, 6)[0, ..., 0]).save(picture, "PNG")
    name = send(client, "small.png", picture.getvalue())
    assert client.post("/upscale", data={"run": "finer", "file": "/etc/passwd"}).status_code == 400
    form = {"run": "finer", "file": name, "steps": "2", "seed": "4", "sampler": "ddim"}
    answer = client.post("/upscale", data=form | {"spacing": "fitted"})
    assert answer.status_code == 200, answer.text
    job = finish(hub)
    made = next(path for path in job.files if path.name == "small.png")
    assert Image.open(made).size == (12, 12)
    assert 1 <= job.pictures <= 2  # tiles on their way; the second may come too soon
    assert Image.open(io.BytesIO(job.picture)).size == (64, 64)  # 12 pixels, five times, a frame
    part = client.get(f"/job?number={job.number}").text
    assert part.count("/job/file") == len(job.files)
    assert client.get(f"/job/file?number={job.number}&place=0").status_code == 200
    assert client.get(f"/job/file?number={job.number}&place=99").status_code == 404
    assert f'data-compare="/job/values?number={job.number}"' in part
    place = {"number": str(job.number)}
    after, before = (
        client.get("/job/values", params=place | {"before": side}) for side in ("false", "true")
    )
    assert (after.headers["x-shape"], before.headers["x-shape"]) == ("3,12,12", "3,6,6")
    made_levels = np.frombuffer(after.content, np.uint8).reshape(3, 12, 12)
    np.testing.assert_array_equal(made_levels[0], np.asarray(Image.open(made).convert("L")))
    words = shown_command(hub, client, job)
    shown = client.post("/upscale/commands", data=form | {"spacing": "fitted"}).text
    assert shlex.join(words) in unescape(shown)
    assert "photo.png" in client.post("/upscale/commands", data=form | {"file": ""}).text
    words[words.index("--out") + 1] = str(runs.parent / "again")
    assert command(words[1:]) == 0
    assert (runs.parent / "again/small.png").read_bytes() == made.read_bytes()
    page = client.get("/upscale?run=finer").text
    assert "Increases the resolution 2 times, after training on the mean of each block." in page


def test_an_upscaled_volume_is_shown_beside_its_file_and_drawn_again(hub, client, runs):
    generator = np.random.default_rng(0)
    np.save(runs.parent / "v.npy", generator.uniform(-1, 1, (12, 1, 4, 8, 8)).astype(np.float32))
    settings = [*TINY, "training.steps=1", "task=super_resolution", "scale=[2,2,2]"]
    settings += ["data.layout=NCDHW"]
    run = runs / "deeper"
    iddpm.train(runs.parent / "v.npy", out=run, settings=settings, reporter=SilentReporter())
    small = generator.uniform(-1, 1, (1, 2, 4, 4)).astype(np.float32)
    form = {"run": "deeper", "file": send(client, "small.npy", npy(small)), "steps": "2"}
    made = []
    for seed in ("0", "1", "0"):
        assert client.post("/upscale", data=form | {"seed": seed}).status_code == 200
        job = finish(hub)
        made.append(job.files[0].read_bytes())
        sides = [
            client.get(f"/job/values?number={job.number}&before={side}")
            for side in ("true", "false")
        ]
        assert [side.headers["x-shape"] for side in sides] == ["1,2,4,4", "1,4,8,8"]
        levels = np.frombuffer(sides[0].content, np.uint8).reshape(small.shape)
        np.testing.assert_allclose(levels / 127.5 - 1, small, atol=0.01)
    assert made[0] == made[2] != made[1]


def test_a_run_is_measured_as_by_the_command(hub, client, runs):
    form = {"run": "pictures", "kind": "likelihood", "max_items": "1", "samples_per_item": "2"}
    shown = client.post("/measure/commands", data=form).text
    assert "Takes about" in shown
    assert client.post("/measure", data=form).status_code == 200
    finish(hub)
    (report,) = (runs / "pictures/likelihood").glob("*.json")
    first = json.loads(report.read_text())
    words = shlex.split(unescape(re.search(r"(?s)<pre[^>]*>(.*?)</pre>", shown)[1]))
    assert command(words[1:]) == 0
    assert json.loads(report.read_text())["total"] == first["total"]
    form = {"run": "pictures", "kind": "evaluate", "n": "8", "steps": "2", "features": "pca"}
    assert client.post("/measure", data=form).status_code == 200
    finish(hub)
    page = client.get("/measure").text
    assert f"{first['total']['mean']:.4g}" in page
    assert "neighbours.png" in page
    for wrong in ({"features": "/etc"}, {"features": "classifier:none"}, {"kind": "x"}, {"n": "1"}):
        assert client.post("/measure", data=form | wrong).status_code in (400, 404)


@pytest.mark.parametrize(("name", "member"), [("a.npz", "a.npy"), ("a.zip", "a.bmp")])
def test_a_zip_bomb_is_refused_with_one_sentence(hub, client, runs, name, member):
    """65 MiB of zeros, listed twenty times."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        start = npy(np.zeros(65 << 20, np.uint8))
        archive.writestr(member, start)
        for number in range(20):
            again = copy.copy(archive.infolist()[0])
            again.filename = again.orig_filename = f"{number}{member}"
            archive.filelist.append(again)
    sent = send(client, name, packed.getvalue())
    assert client.post("/train/look", data={"data": sent, "name": "x"}).status_code == 200
    job = hub.jobs.all()[0]
    wait_until(lambda: job.ended)
    assert job.state == "failed"
    assert re.search(r"promises \d+ bytes(, of which it holds| out of) \d+", job.message)
    assert "\n" not in job.message
    assert client.get("/").status_code == 200


@pytest.mark.system
def test_runs_and_data_are_compared_as_by_the_command(hub, client, runs, monkeypatch):
    shutil.copytree(runs / "pictures", runs / "second")
    monkeypatch.setattr(hub.index, "_scanned", -9.0)
    form = {"run": "pictures", "kind": "compare_runs", "other": "second", "n": "6", "steps": "1"}
    shown = client.post("/measure/commands", data=form).text
    assert "Takes about" in shown
    assert client.post("/measure", data=form).status_code == 200
    assert "second |" in "\n".join(finish(hub).lines)
    table = runs / "evaluation/comparison.json"
    first = json.loads(table.read_text())
    assert (
        command(shlex.split(unescape(re.search(r"(?s)<pre[^>]*>(.*?)</pre>", shown)[1]))[1:]) == 0
    )
    assert [row["frechet_distance"] for row in json.loads(table.read_text())] == [
        row["frechet_distance"] for row in first
    ]

    assert command(["sample", str(runs / "second"), "-n", "6", "--steps", "1"]) == 0
    dropped = send(client, "x.npy", npy(images(8)))
    data = {"run": "pictures", "kind": "compare_data", "generated": "second/samples/seed_0"}
    assert client.post("/measure", data=data).status_code == 200
    assert client.post("/measure", data=data | {"real": dropped}).status_code == 200
    finish(hub)
    reports = sorted((runs / "pictures/compared").glob("*/report.json"))
    assert [path.parent.name[:13] for path in reports] == ["second_seed_0", "second_seed_0"]
    own, other = (json.loads(path.read_text())["samples"] for path in reports)
    shown = client.post("/measure/commands", data=data).text
    assert (
        command(shlex.split(unescape(re.search(r"(?s)<pre[^>]*>(.*?)</pre>", shown)[1]))[1:]) == 0
    )
    assert json.loads(reports[0].read_text())["samples"] == own != other
    _evaluate_against(client, hub, runs / "pictures", dropped)
    page = client.get("/measure?run=pictures").text
    assert "recall: second_seed_0" in unescape(page)
    assert re.search("recall: evaluation-[0-9a-f]{16}_x.npy", unescape(page))
    assert '<option value="second/samples/seed_0">' in page
    for wrong in (
        form | {"other": "none"},
        form | {"other": "/etc"},
        data | {"generated": ""},
        data | {"generated": "/etc/passwd"},
        data | {"generated": "../x/samples/seed_0"},
        data | {"real": "second/samples/../../.."},
        data | {"more": "training.steps=1"},
    ):
        answer = client.post("/measure", data=wrong)
        if answer.status_code == 200:  # an option that only the command knows
            wait_until(lambda: hub.jobs.all()[0].ended)
            assert "training.steps=1" in hub.jobs.all()[0].message
        else:
            assert answer.status_code in (400, 404)


def _evaluate_against(client, hub, run, data):
    """Measure the samples of a run beside other data, which leaves its own report as it was."""
    own = (run / "evaluation/report.json").read_bytes()
    form = {"run": "pictures", "kind": "evaluate", "n": "6", "steps": "1", "data": data}
    shown = client.post("/measure/commands", data=form).text
    assert client.post("/measure", data=form | {"out": "/etc"}).status_code == 200
    finish(hub)
    (report,) = (run / "compared").glob("evaluation-*/report.json")
    first = json.loads(report.read_text())
    assert first["reference"]["count"] == 8
    shell = unescape(re.search(r"(?s)<pre[^>]*>(.*?)</pre>", shown)[1])
    assert command(shlex.split(shell)[1:]) == 0
    assert json.loads(report.read_text())["samples"] == first["samples"]
    assert (run / "evaluation/report.json").read_bytes() == own
    assert client.post("/measure", data=form | {"data": "/etc/passwd"}).status_code == 404


@pytest.mark.system
def test_a_training_is_looked_at_started_and_waited_for(hub, client, runs):
    data = send(client, "x.npz", _npz())
    settings = {f"set:{name}": value for name, _, value in (s.partition("=") for s in TINY)}
    form = {"data": data, "name": "new", "more": "training.steps=1000000\n"} | settings
    assert client.post("/train/look", data=form).status_code == 200
    job = finish(hub)
    assert any(line.startswith("training") for line in job.lines)
    assert client.get(f"/job/file?number={job.number}&place=0").status_code == 200
    part = client.get(f"/job?number={job.number}").text
    proposed = json.loads(unescape(re.search(r'data-proposed="(.*?)"', part)[1]))
    assert (proposed["training.batch_size"], proposed["training.anneal"]) == ("8", "none")
    assert proposed["model.num_heads"] == "2"
    shown = client.post("/train/commands", data=form).text
    assert "-s training.steps=1000000" in shown
    assert f"--out {runs}/new" in shown
    assert client.post("/train", data=form).headers["location"] == "/train/started?name=new"
    wait_until(lambda: client.get("/train/started?name=new").status_code == 303)
    wait_until(lambda: holder(runs / "new"))
    assert 'class="state training"' in client.get("/run?run=new").text
    assert client.post("/train", data=form).status_code == 400  # it is there already
    assert client.post("/run/stop", data={"run": "new"}).status_code == 303
    wait_until(lambda: not hub.trainings.is_starting(runs / "new"))
    for wrong in ({"data": ""}, {"name": "../x"}, {"name": ""}, {"more": "no.such=1"},
                  {"set:training.learning_rate": "many"}, {"data": "upload/none"}):  # fmt: skip
        answer = client.post("/train", data=form | {"name": "other"} | wrong)
        assert answer.status_code in (400, 404), wrong
        part = client.post("/train", data=form | {"name": "other"} | wrong, headers=HTMX)
        assert part.text.startswith('<p class="notice bad" role="alert">')
    assert not (runs / "other").exists()


def _npz():
    file = io.BytesIO()
    np.savez(file, arr_0=images(), arr_1=np.arange(60) % 3)
    return file.getvalue()


def test_a_training_that_fails_says_why(hub, client, runs):
    form = {"data": str(runs.parent / "none.npz"), "name": "failing"}
    answer = client.post("/train", data=form, headers=HTMX)
    assert answer.headers["hx-redirect"] == "/train/started?name=failing"
    wait_until(lambda: not hub.trainings.is_starting(runs / "failing"))
    assert "none.npz" in client.get("/train/started?name=failing").text


def test_every_setting_has_a_field_with_its_documentation():
    fields = {field.name: field for section in setting_fields().values() for field in section}
    assert {"training.steps", "data.image_size", "sampling.guidance_interval"} <= set(fields)
    assert "data.path" not in fields
    assert fields["data.corrupt"].choices == ("error", "skip")
    assert fields["data.flip"].choices == ("true", "false")
    assert fields["training.steps"].default == ""  # it is decided when the data is known
    assert fields["training.save_every"].default == "1000"
    assert fields["data.flip"].help.startswith("Mirror items left to right")


def test_uploads_are_limited_and_named_plainly(client, hub, monkeypatch):
    name = send(client, "../../a b<c>.png", b"x")
    assert re.fullmatch(r"upload/[0-9a-f]{16}/a_b_c_.png", name)
    folder = hub.uploads.folder
    before = sorted(folder.iterdir())
    monkeypatch.setattr(uploads, "LARGEST", 1000)
    huge = {"content-length": str(10**10)}
    assert client.put("/upload?name=x", content=b"x", headers=huge).status_code == 413
    assert client.put("/upload?name=x", content=(b"x" * 100 for _ in range(20))).status_code == 413
    assert client.put("/upload?name=x", content=b"").status_code == 400
    monkeypatch.setattr(uploads, "MOST_FILES", 1)
    assert client.put("/upload?name=x", content=b"x").status_code == 413
    assert sorted(folder.iterdir()) == before  # nothing is left of what was refused
    monkeypatch.setattr(uploads, "KEPT", -1)
    for entry in folder.glob("*.keep"):  # data of trainings
        entry.unlink()
    hub.uploads.keep(folder / name.removeprefix("upload/"))
    hub.uploads.clear()
    hub.uploads.clear()
    token = name.split("/")[1]
    assert sorted(path.name for path in folder.iterdir()) == [token, f"{token}.keep"]


def test_several_files_become_one_folder_of_data(client, hub, runs):
    into = "new"
    for path in ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/../../../1.png"):
        query = {"name": path, "into": into}
        answer = client.put("/upload", params=query, content=b"x" * 5)
        _, into, rest = answer.json()["name"].split("/", 2)
    assert rest == "file/file/file/1.png"  # the last four parts, none of which leads up
    folder = hub.uploads.folder / into
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*.png")} == {
        "cats/1.png",
        "cats/2.png",
        "dogs/1.png",
        rest,
    }
    again = {"name": "cats/1.png", "into": into}
    assert client.put("/upload", params=again, content=b"y").status_code == 400
    for wrong in ("none", "..", f"{into}/cats", "/"):
        answer = client.put("/upload", params={"name": "a.png", "into": wrong}, content=b"y")
        assert answer.status_code == 404, wrong
    shown = client.post("/train/commands", data={"data": f"upload/{into}", "name": "x"}).text
    assert f"{folder}" in shown
