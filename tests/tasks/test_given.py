"""Data that is given with each item, from the outside: pictures drawn from other pictures."""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

import iddpm
from iddpm.builders.run_data import on_device, open_split
from iddpm.cli.main import run as command
from iddpm.data.batches import held_out_batches
from iddpm.data.levels import round_to_levels
from iddpm.evaluation.fidelity import psnr
from iddpm.evaluation.similarity import ssim
from iddpm.runs.run import Run
from iddpm.tasks.edit import edit
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.pairs import held_out_pairs
from iddpm.tasks.samples import draw_samples
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, assert_same_state, images

COUNT = 80
QUIET = Console(file=io.StringIO())


def train(data, out, settings, **options):
    return iddpm.train(data, out=out, settings=settings, reporter=SilentReporter(), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """80 gray pictures, colored negatives of them, and a model from these to those."""
    folder = tmp_path_factory.mktemp("given")
    for name in ("pictures", "negatives"):
        (folder / name).mkdir()
    for number, gray in enumerate(images(COUNT)[..., 0]):
        Image.fromarray(gray).save(folder / f"pictures/{number:03d}.png")
        colors = np.stack([255 - gray, gray // 2, np.full_like(gray, number)], axis=-1)
        Image.fromarray(colors).save(folder / f"negatives/{number:03d}.bmp")
    train(
        folder / "pictures",
        folder / "run",
        [
            *TINY,
            f"data.given={folder / 'negatives'}",
            "data.held_out=0.2",
            "model.model_channels=16",
            "model.attention_downsampling=[]",
            "diffusion.predicts=v",
            "training.steps=150",
            "training.batch_size=16",
            "training.learning_rate=4e-3",
            "training.ema_rates=[0.95]",
            "training.preview_every=150",
            "sampling.steps=8",
        ],
    )
    return folder


def likeness(x, truth):
    """The correlation of each sample with what it should be."""
    return [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(x, truth, strict=True)]


def held_out(run):
    split = open_split(run.config)
    (batch,) = held_out_batches(split.source, split.held_out, batch_size=COUNT)
    ((x, conditioning),) = on_device([batch], run.config, torch.device("cpu"))
    return x, conditioning


def test_samples_follow_what_is_given(folder):
    run = iddpm.load(folder / "run")
    assert (run.config.model.given_channels, run.config.data.given_range) == (3, None)
    x, conditioning = held_out(run)
    assert conditioning["given"].shape == (len(x), 3, 8, 8)
    drawn = run.sample(len(x), given=conditioning)
    assert np.mean(likeness(drawn, x)) > 0.8
    assert np.mean(likeness(drawn, x.roll(1, 0))) < 0.5
    assert (folder / "run/samples/step_00000150.png").is_file()


def test_evaluation_compares_with_the_truth(folder, tmp_path):
    run = iddpm.load(folder / "run")
    result = iddpm.evaluate(run, n=12, out=tmp_path, console=QUIET)
    paired = result.report["paired"]
    pairs = held_out_pairs(run, paired["count"])
    assert paired["count"] == min(12, len(run.open_split().held_out))
    drawn = run.sample(paired["count"], given=pairs.given)
    x, truth = round_to_levels(drawn, 8), pairs.truth()
    found = paired["ways"]["samples"]
    # The batches of a cache and of these samples differ, and so may a level of a few pixels.
    assert found["psnr"]["value"] == pytest.approx(psnr(x, truth).value, abs=0.01)
    assert found["ssim"]["value"] == pytest.approx(ssim(x, truth).value, abs=1e-3)
    assert found["psnr"]["value"] > psnr(x.roll(1, 0), truth).value + 1  # its own, not another's
    assert set(paired["ways"]) == {"samples"}  # the negatives have three channels, the data one
    text = (tmp_path / "report.md").read_text()
    assert f"| {paired['count']} pairs | samples | better |" in text
    assert "| SSIM |" in text
    before = sorted((folder / "run/cache").glob("samples_*"))
    iddpm.evaluate(run, n=12, out=tmp_path, console=QUIET)
    assert sorted((folder / "run/cache").glob("samples_*")) == before


def test_an_item_is_likely_with_what_goes_with_it(folder, tmp_path):
    run = iddpm.load(folder / "run")
    own = likelihood(run, console=QUIET)
    assert own.facts["given"] == "data that goes with them"
    split = open_split(run.config)
    for number, item in enumerate(split.held_out):
        other = split.held_out[(number + 3) % len(split.held_out)]
        for name, source in (("data", item), ("own", item), ("others", other)):
            kind = ("pictures", "png") if name == "data" else ("negatives", "bmp")
            (tmp_path / name).mkdir(exist_ok=True)
            file = folder / kind[0] / f"{source:03d}.{kind[1]}"
            shutil.copy(file, tmp_path / name / f"{number}.{kind[1]}")
    right, wrong = (
        likelihood(run, tmp_path / "data", given=tmp_path / name, console=QUIET).total.mean
        for name in ("own", "others")
    )
    assert right == pytest.approx(own.total.mean, abs=0.5)
    assert wrong > right + 0.5
    with pytest.raises(ValueError, match=r"give that of .*data with --given"):
        likelihood(run, tmp_path / "data", console=QUIET)


def test_the_command_draws_for_pictures_folders_and_held_out_items(folder, tmp_path, capsys):
    flags = ["--steps", "8", "--npz"]

    def sampled(name, *more):
        out = tmp_path / name
        assert command(["sample", str(folder / "run"), "--out", str(out), *flags, *more]) == 0
        with np.load(out / "samples.npz") as arrays:
            return arrays["arr_0"][..., 0].astype(float)

    truth = np.stack([np.array(Image.open(folder / f"pictures/{k:03d}.png")) for k in (5, 6)])
    five, six = (folder / f"negatives/{k:03d}.bmp" for k in (5, 6))
    assert np.mean(likeness(sampled("one", "-n", "4", "--given", str(five)), truth[[0] * 4])) > 0.8
    (tmp_path / "two").mkdir()
    for file in (five, six):
        shutil.copy(file, tmp_path / "two")
    drawn = sampled("each", "--given", str(tmp_path / "two"))
    assert len(drawn) == 2
    assert np.mean(likeness(drawn, truth)) > 0.8
    drawn = sampled("more", "--given", str(tmp_path / "two"), "-n", "4")
    assert np.mean(likeness(drawn, truth[[0, 1, 0, 1]])) > 0.8
    grid = np.array(Image.open(tmp_path / "more/grid.png").convert("L"))
    assert grid.shape[1] > grid.shape[0] * 1.5  # what was given beside each
    capsys.readouterr()
    assert len(sampled("held_out", "-n", "5")) == 5
    assert command(["sample", str(folder / "run"), "--given", str(folder / "pictures")]) == 2
    assert (
        "items of shape (1, 8, 8), and the model takes paired data of shape (3, 8, 8)"
        in capsys.readouterr().err
    )


def test_measured_samples_are_drawn_for_what_goes_with_training_items(folder):
    run = Run(folder / "run")
    split = open_split(run.config)
    samples = draw_samples(run, 4, {"steps": 8}, split, 0, None, QUIET)
    known = split.source.read_many(split.train) / 127.5 - 1.0
    best = [max(likeness([x] * len(known), known)) for x in samples.x.numpy()]
    assert min(best) > 0.8
    assert "as in the training data" in samples.facts["given"]


def test_what_a_model_of_given_data_cannot_do_is_said(folder):
    run = Run(folder / "run")
    with pytest.raises(ValueError, match=r"items of shape \(3, 8, 8\) .* got none"):
        run.sample(2)
    with pytest.raises(ValueError, match=r"got items of shape \(1, 8, 8\)"):
        run.sample(2, given={"given": torch.zeros(2, 1, 8, 8)})
    with pytest.raises(ValueError, match="only models without it can edit items"):
        edit(run, 0, console=QUIET)


def test_resume_is_exact_and_notices_other_data(tmp_path, folder):
    shutil.copytree(folder / "negatives", tmp_path / "given")
    options = [
        *TINY,
        f"data.given={tmp_path / 'given'}",
        "data.flip=true",
        "data.random_crop=true",
        "training.keep_checkpoints=9",
    ]
    train(folder / "pictures", tmp_path / "whole", [*options, "training.steps=8"])
    train(folder / "pictures", tmp_path / "parts", [*options, "training.steps=3"])
    go_on = {"out": tmp_path / "parts", "resume": True}
    (tmp_path / "given/002.bmp").rename(tmp_path / "given/002.png")
    with pytest.raises(ValueError, match=r"has changed since .* \(other paired data"):
        train(None, settings=["training.steps=8"], **go_on)
    more = ["training.steps=8", f"data.given={folder / 'negatives'}", "data.workers=1"]
    train(None, settings=more, **go_on)
    assert_same_state(tmp_path / "whole", tmp_path / "parts", 8)


def test_numbers_of_other_ranges_are_measured_once(tmp_path):
    generator = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", generator.uniform(-1, 1, (20, 8)))
    np.save(tmp_path / "given.npy", generator.integers(-1000, 2000, (20, 8), dtype=np.int16))
    options = [*TINY, "training.steps=1", f"data.given={tmp_path / 'given.npy'}"]
    run = train(tmp_path / "x.npy", tmp_path / "run", options)
    assert run.config.data.given_range == (-2048, 2047)
    (_, conditioning) = held_out(run)
    assert conditioning["given"].abs().max() <= 1
    np.save(tmp_path / "few.npy", np.array([[-2048] * 8, [2047] * 8], dtype=np.int16))
    out = ["--out", str(tmp_path / "out"), "--steps", "1"]
    assert command(["sample", str(run.directory), "--given", str(tmp_path / "few.npy"), *out]) == 0
    assert np.load(tmp_path / "out/samples.npz")["arr_0"].shape == (2, 8, 1)


def test_a_given_picture_of_another_size_is_refused(folder, tmp_path, capsys):
    size = Image.open(next((folder / "negatives").iterdir())).size
    Image.new("RGB", (size[0] * 2, size[1])).save(tmp_path / "wide.png")
    assert command(["sample", str(folder / "run"), "--given", str(tmp_path / "wide.png")]) == 2
    said = capsys.readouterr().err
    assert f"{size[1]} x {size[0] * 2}" in said
    assert f"{size[1]} x {size[0]}" in said
