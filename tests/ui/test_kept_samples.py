"""Samples of every kind are kept, shown as fresh ones are, downloaded and edited."""

import io
import shutil
import wave
from html import unescape
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
import soundfile
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.monitoring.terminal import SilentReporter
from iddpm.ui.application import build_hub
from iddpm.ui.kept_samples import keep_sample
from iddpm.ui.sample_sets import read_sample, read_set, way_frames
from tests.conftest import TINY, images, wait_until
from tests.ui.conftest import open_client

LENGTH, RATE, FRAMES = 64, 8000, 4


def write_media(folder):
    """Write noises as WAV files, and moving pictures as GIF files."""
    generator = np.random.default_rng(0)
    for name in ("sounds", "clips"):
        (folder / name).mkdir()
    for number in range(8):
        noise = generator.uniform(-0.5, 0.5, LENGTH)
        soundfile.write(folder / f"sounds/{number}.wav", noise, RATE, "PCM_16")
        frames = [Image.fromarray(x[..., 0]) for x in np.roll(images(8), number, axis=0)[:FRAMES]]
        how = {"save_all": True, "append_images": frames[1:], "duration": 100}
        frames[0].save(folder / f"clips/{number}.gif", **how)


@pytest.fixture(scope="module")
def runs(tmp_path_factory, signal_and_volume):
    """Runs of five kinds of data, with three samples of each and their way from noise."""
    folder = tmp_path_factory.mktemp("kept")
    write_media(folder)
    shutil.copytree(signal_and_volume, folder / "runs")
    for name in ("sounds", "clips"):
        settings = [*TINY, "training.steps=1"]
        out = folder / "runs" / name
        iddpm.train(folder / name, out=out, reporter=SilentReporter(), settings=settings)
    for name in ("pictures", "signals", "volumes", "sounds", "clips"):
        run = folder / "runs" / name
        shutil.rmtree(run / "samples", ignore_errors=True)
        assert command(["sample", str(run), "-n", "3", "--steps", "2", "--gif"]) == 0
    return folder / "runs"


@pytest.fixture(scope="module")
def hub(runs):
    hub = build_hub(runs)
    yield hub
    hub.jobs.close()


KINDS = {
    "pictures": ".png", "signals": ".npy", "volumes": ".npy", "sounds": ".wav", "clips": ".gif",
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_is_kept_shown_and_edited(hub, runs, name):
    client, fresh = open_client(hub), {"run": name, "samples": "seed_0", "number": "1"}
    file = f"seed_0_000001{KINDS[name]}"
    assert f"samples/kept/{file}" in client.post("/keep", data=fresh).text
    assert client.post("/keep", data=fresh).status_code == 200  # the same again
    found = read_set(runs / name, "kept")
    assert found.files == (file,)
    kept = {"run": name, "samples": "kept", "number": "0"}
    assert '<button type="button" class="item"' in client.get("/sample", params=kept).text
    both = [client.get("/item/values", params=query).content for query in (fresh, kept)]
    assert both[0] == both[1]
    item = client.get("/item", params=kept).text
    assert file in item
    assert 'data-frames="3"' in item
    assert 'action="/item/edit"' in item
    ways = [client.get("/item/way", params=q | {"frame": 2}).content for q in (fresh, kept)]
    first, second = (np.asarray(Image.open(io.BytesIO(way)), dtype=int) for way in ways)
    assert np.abs(first - second).max() <= 16  # the colors of a GIF, once more
    answer = client.get("/item/download", params=kept)
    assert f'filename="{file}"' in answer.headers["content-disposition"]
    assert answer.content == (runs / name / "samples/kept" / file).read_bytes()
    answer = client.get("/item/download", params=fresh)
    assert answer.content == (runs / name / "samples/kept" / file).read_bytes()

    there = urlsplit(client.post("/item/edit", data=fresh).headers["location"])
    (chosen,) = parse_qs(there.query)["item"]
    own = chosen == f"samples/seed_0/000001{KINDS[name]}"
    assert own or (KINDS[name] == ".npy" and chosen == f"samples/kept/{file}")
    assert client.get("/edit/values", params={"run": name, "item": chosen}).content == both[0]
    form = {"run": name, "kind": "edit", "item": chosen, "n": "1", "steps": "2"}
    assert client.post("/edit", data=form).status_code == 200
    job = hub.jobs.all()[0]
    wait_until(lambda: job.ended)
    assert job.state == "done", job.message
    edited = {"run": name, "samples": "edit", "number": "0"}
    assert client.get("/item/values", params=edited).status_code == 200
    kept_too = client.post("/keep", data=edited)
    assert f"samples/kept/edit_000000{KINDS[name]}" in kept_too.text
    form = {"run": name, "samples": "kept", "number": "0"}
    assert client.post("/item/nearest", data=form).status_code == 200
    job = hub.jobs.all()[0]
    wait_until(lambda: job.ended)
    assert job.state == "done", job.message


def test_a_sample_of_any_name_is_downloaded(hub, runs):
    run = runs / "pictures"
    shutil.copytree(run / "samples/seed_0", run / 'samples/猫 "1"')
    chosen = {"run": "pictures", "samples": '猫 "1"', "number": "0"}
    client = open_client(hub)
    assert client.post("/keep", data=chosen).status_code == 200
    number = read_set(run, "kept").files.index('猫 "1"_000000.png')
    kept = client.get("/item/download", params=chosen | {"samples": "kept", "number": str(number)})
    said = kept.headers["content-disposition"]
    assert said == (
        "attachment; filename=\"___1__000000.png\"; filename*=utf-8''%E7%8C%AB%20%221%22_000000.png"
    )
    assert kept.content == (run / "samples/seed_0/000000.png").read_bytes()
    assert client.get("/samples.zip", params=chosen).status_code == 200


def test_what_is_drawn_anew_under_the_same_name_replaces_nothing(hub, runs):
    run, config = runs / "pictures", hub.index.facts("pictures").config
    words = ["sample", str(run), "-n", "3", "--out", str(run / "samples/again")]
    assert command([*words, "--steps", "2"]) == 0
    names = [keep_sample(run, read_set(run, "again"), 2, config)]
    assert command([*words, "--steps", "3", "--seed", "1"]) == 0
    names += [keep_sample(run, read_set(run, "again"), 2, config) for _ in range(2)]
    assert names[1:] == ["samples/kept/again-2_000002.png"] * 2
    assert names[0] == "samples/kept/again_000002.png"
    assert len({(run / name).read_bytes() for name in names}) == 2


def test_the_way_from_noise_is_that_of_the_sample_whatever_was_filmed(hub, runs):
    run, config = runs / "pictures", hub.index.facts("pictures").config
    out = run / "samples/film"
    words = ["sample", str(run), "-n", "5", "--steps", "2", "--gif", "--out", str(out)]
    assert command([*words, "--batch-size", "4"]) == 0
    client = open_client(hub)
    found = read_set(run, "film")
    for number in range(5):
        query = {"run": "pictures", "samples": "film", "number": number}
        answer = client.get("/item/way", params=query | {"frame": 2})
        assert (answer.status_code == 200) == (number < 4)
        assert way_frames(found, number, 64) == (3 if number < 4 else 0)
        if number < 4:
            last = np.asarray(Image.open(io.BytesIO(answer.content)).convert("L"), dtype=int)
            sample = read_sample(found, number, config).numpy()[0]
            assert np.abs(last[::8, ::8] - (sample + 1) * 127.5).max() <= 8


def test_every_sound_can_be_heard(hub, runs):
    client, run = open_client(hub), runs / "sounds"
    query = {"run": "sounds", "samples": "seed_0", "number": "1"}
    assert "000001.wav" in client.get("/item", params=query).text
    with wave.open(io.BytesIO(client.get("/item/sound", params=query).content)) as sound:
        assert (sound.getframerate(), sound.getnframes()) == (RATE, LENGTH)
        heard = np.frombuffer(sound.readframes(LENGTH), "<i2")
    stored, _ = soundfile.read(run / "samples/seed_0/000001.wav", dtype="int16")
    assert np.abs(heard.astype(int) - stored).max() <= 1
    item = {"run": "sounds", "item": "samples/seed_0/000001.wav"}
    assert client.get("/edit/sound", params=item).headers["content-type"] == "audio/wav"
    assert "/edit/sound" in client.get("/edit", params=item).text
    longer = io.BytesIO()
    soundfile.write(longer, np.zeros(LENGTH + 1), RATE, "PCM_16", format="WAV")
    sent = client.put("/upload?name=longer.wav", content=longer.getvalue()).json()["name"]
    answer = client.get("/edit/values", params={"run": "sounds", "item": sent})
    assert answer.status_code == 400
    assert "items have shape (1, 64): cut it to that size" in unescape(answer.text)
    other = {"run": "signals", "samples": "seed_0", "number": "1"}
    assert client.get("/item/sound", params=other).status_code == 404


def test_only_samples_of_ours_are_kept_and_edited(hub, runs):
    client = open_client(hub)
    good = {"run": "signals", "samples": "seed_0", "number": "1"}
    for wrong in ({"number": "9"}, {"number": "-1"}, {"number": "²"}, {"samples": ".."},
                  {"samples": "kept"}, {"run": ".."}, {"run": "none"}):  # fmt: skip
        for path in ("/keep", "/item/edit"):
            if wrong == {"samples": "kept"} and path == "/item/edit":
                continue
            assert client.post(path, data=good | wrong).status_code == 404, (path, wrong)
        if wrong != {"samples": "kept"} and wrong != {"number": "²"}:
            answer = client.get("/item/download", params=good | wrong)
            assert answer.status_code in (400, 404), wrong
