"""Runs of super-resolution: training, resuming, previews, likelihood and samples."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import iddpm
from iddpm.builders import held_out_low_res
from iddpm.builders.run_data import on_device, open_split
from iddpm.cli.main import run as command
from iddpm.data.batches import held_out_batches
from iddpm.data.levels import to_model_range, to_stored_range
from iddpm.evaluation.fidelity import psnr
from iddpm.evaluation.similarity import ssim
from iddpm.tasks.edit import edit
from iddpm.tasks.likelihood import likelihood
from iddpm.tasks.pairs import held_out_pairs
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, final_tensors, images

SETTINGS = (
    *TINY,
    "task=super_resolution",
    "scale=2",
    "degradation.noise=0.05",
    "degradation.augment=0.3",
    "model.class_conditional=true",
    "data.held_out=0.2",
    "training.ema_rates=[0.9]",
    "training.preview_every=4",
    "training.validate_every=4",
    "training.save_every=4",
    "training.keep_checkpoints=9",
)


def train(data, out, *settings, **options):
    reporter = SilentReporter()
    return iddpm.train(data, out=out, settings=settings, reporter=reporter, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("super_resolution")
    np.savez(folder / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    train(folder / "x.npz", folder / "run", *SETTINGS, "training.steps=8")
    return folder


def items_of(run, count):
    split = open_split(run.config)
    items = split.held_out[:count]
    truth = to_model_range(split.source.read_many(items), split.source.bits)
    return held_out_low_res(run.config, truth, items.tolist()), truth


def test_going_on_is_going_through_and_the_held_out_loss_is_the_same(folder, tmp_path):
    train(folder / "x.npz", tmp_path, *SETTINGS, "training.steps=4")
    train(None, tmp_path, "training.steps=8", resume=True)
    a, b = final_tensors(folder / "run", 8), final_tensors(tmp_path, 8)
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [
        [r["held_out_loss"] for r in map(json.loads, (d / "log.jsonl").read_text().splitlines())
         if "held_out_loss" in r]
        for d in (folder / "run", tmp_path)
    ]  # fmt: skip
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
    with pytest.raises(ValueError, match=r"trained with another scale and cannot continue"):
        train(None, tmp_path, "scale=4", resume=True)
    with pytest.raises(ValueError, match=r"another degradation\.kind"):
        train(None, tmp_path, "degradation.kind=blur", resume=True)


def test_previews_show_low_resolution_sample_and_truth(folder):
    (path,) = (folder / "run/samples").glob("step_00000008.png")
    grid = np.asarray(Image.open(path)).astype(int)
    tile = 64  # 8 x 8, enlarged; 2 between them
    assert grid.shape == (2 + 3 * (tile + 2), 2 + 12 * (tile + 2))
    low_res, _, truth = (grid[2 : 2 + tile, k : k + tile] for k in (2, 4 + tile, 6 + 2 * tile))
    blocks = low_res.reshape(4, 16, 4, 16)
    assert (blocks == blocks[:, :1, :, :1]).all()
    means = truth.reshape(4, 16, 4, 16).mean(axis=(1, 3))
    assert abs(blocks[:, 0, :, 0] - means).max() < 5 * 0.05 * 127.5


def test_samples_are_drawn_from_what_is_given_in_any_batch(folder):
    run = iddpm.load(folder / "run")
    low_res, _ = items_of(run, 5)
    options = {"given": {"low_res": low_res}, "classes": [0, 1, 2, 0, 1]}
    for level in (0.0, 0.2):
        whole = run.sample(5, low_res_noise=level, **options)
        parts = run.sample(5, low_res_noise=level, batch_size=2, **options)
        assert torch.allclose(whole, parts, atol=1e-3)
    assert not torch.allclose(whole, run.sample(5, **options), atol=1e-3)
    other = run.sample(5, **{**options, "given": {"low_res": -low_res}})
    assert not torch.allclose(other, run.sample(5, **options), atol=1e-3)
    weaker = run.sample(5, autoguidance=4, guidance=2.0, low_res_noise=0.2, **options)
    assert weaker.isfinite().all()


def test_what_cannot_be_drawn_is_refused(folder, tmp_path):
    run = iddpm.load(folder / "run")
    low_res, _ = items_of(run, 2)
    for options, message in (
        ({}, r"run is a super-resolution model: give low_res, tensors of shape \(1, 4, 4\)"),
        ({"given": {"low_res": low_res[:, :, :3]}}, r"low_res holds items of shape \(1, 3, 4\)"),
        ({"given": {"low_res": low_res[:1]}}, "low_res has 1 rows for 2 samples"),
        ({"low_res_noise": 0.4}, r"degradation.augment=0\.4 or more, and this one has 0\.3"),
        ({"low_res_noise": -1}, "sampling.low_res_noise=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            run.sample(2, **options)
    with pytest.raises(ValueError, match="only models with task=generation can edit items"):
        edit(run, 0)
    generation = [*TINY, "model.class_conditional=true", "training.steps=1"]
    train(folder / "x.npz", tmp_path / "other", *generation)
    with pytest.raises(
        ValueError,
        match=r"no low-resolution input and the model on a low-resolution input of 4 x 4",
    ):
        run.sample(2, given={"low_res": low_res}, autoguidance=tmp_path / "other")


def test_the_likelihood_is_that_of_the_data_given_its_low_resolution(folder):
    run = iddpm.load(folder / "run")
    options = {"steps": 10, "max_items": 6, "batch_size": 3}
    found = likelihood(run, **options)
    assert found.unit == "bits/dim"
    assert likelihood(run, **options | {"batch_size": 6}).total.mean == pytest.approx(
        found.total.mean, rel=1e-5
    )
    best = likelihood(run, stride="optimal", table_items=2, **options)
    assert np.isfinite(best.total.mean)


def test_every_command_takes_such_a_run(folder, capsys):
    run, data = folder / "commands", str(folder / "x.npz")
    scale = ["-s", "task=super_resolution", "-s", "scale=2", "-s", "data.held_out=0.4"]
    tiny = [word for setting in TINY for word in ("-s", setting)]
    out = ["--out", str(run), "-s", "training.steps=2"]
    assert command(["train", data, *tiny, *scale, *out]) == 0
    assert "increases the resolution 2 times: box degradation" in capsys.readouterr().out
    assert command(["info", str(run)]) == 0
    assert "increases the resolution 2 times: box degradation" in capsys.readouterr().out
    pairs = held_out_pairs(iddpm.load(run), 30)
    count = len(open_split(iddpm.load(run).config).held_out)
    assert len(set(pairs.items.tolist())) == count < 30
    drawn = iddpm.load(run).sample(30, given=pairs.given)

    assert command(["sample", str(run), "-n", "30", "--npz"]) == 0
    stored = np.load(run / "samples/seed_0/samples.npz")["arr_0"][..., 0]
    assert np.array_equal(stored, to_stored_range(drawn, 8)[:, 0].numpy())
    grid = np.asarray(Image.open(run / "samples/seed_0/grid.png")).astype(int)
    third = grid[2:66, 2 + 2 * 66 : 66 + 2 * 66][4::8, 4::8]
    assert np.array_equal(third, to_stored_range(pairs.truth(1), 8)[0, 0].numpy())
    second = grid[2:66, 2 + 66 : 66 + 66][4::8, 4::8]
    assert np.array_equal(second, stored[0])

    assert command(["evaluate", str(run)]) == 0
    assert "| bicubic |" in capsys.readouterr().out
    report = json.loads((run / "evaluation/report.json").read_text())
    assert (run / "evaluation/finer.png").is_file()
    assert report["samples"]["count"] == count
    found, truth = report["super_resolution"]["ways"], pairs.truth(count)
    options = {"size": (8, 8), "antialias": True}
    for name, x in (
        ("samples", drawn[:count]),
        ("linear", F.interpolate(pairs.low_res[:count], mode="bilinear", **options)),
        ("bicubic", F.interpolate(pairs.low_res[:count], mode="bicubic", **options)),
    ):
        rounded = to_model_range(to_stored_range(x, 8), 8)
        assert found[name]["psnr"]["value"] == pytest.approx(psnr(rounded, truth).value, abs=1e-3)
        again = to_model_range(to_stored_range(F.avg_pool2d(rounded, 2), 8), 8)
        wanted = psnr(again, pairs.low_res[:count]).value
        assert found[name]["low_res_psnr"]["value"] == pytest.approx(wanted, abs=0.01)
        assert found[name]["ssim"]["value"] == pytest.approx(ssim(rounded, truth).value, abs=2e-3)
    distances = [way["frechet_distance"]["value"] for way in found.values()]
    assert distances[0] == report["samples"]["frechet_distance"]["value"]
    assert len(set(distances)) == len(found) == 4
    again = iddpm.load(run).sample(count, seed=1, given={"low_res": pairs.low_res[:count]})
    two = [to_model_range(to_stored_range(x, 8), 8) for x in (drawn[:count], again)]
    assert found["mean of 2"]["psnr"]["value"] == pytest.approx(
        psnr(sum(two) / 2, truth).value, abs=1e-3
    )
    spread = report["super_resolution"]["spread"]
    assert spread["expected"]["value"] == pytest.approx(
        1.5 * float(torch.stack(two).double().var(dim=0).mean()), rel=1e-2
    )
    assert min(way["perceptual"]["value"] for way in found.values()) > 0
    written = (run / "evaluation/report.md").read_text()
    for said in ("| SSIM |", "| perceptual distance |", "lean to what is smooth", "MMSE (1 + 1/2)"):
        assert said in written

    assert command(["likelihood", str(run), "--samples-per-item", "3"]) == 0
    assert "bits/dim conditioned on the low resolution (" in capsys.readouterr().out
    samples = str(run / "samples/seed_0/samples.npz")
    assert command(["evaluate", str(run), "--samples", samples]) == 2
    assert "a sample for each held-out item" in capsys.readouterr().err
    assert command(["evaluate", str(run), "--average", "0"]) == 2
    assert "average=0 samples have no mean" in capsys.readouterr().err


def test_the_classes_of_samples_are_those_of_their_items(folder):
    run = iddpm.load(folder / "run")
    pairs = held_out_pairs(run, 5)
    plan = run.plan()
    assert pairs.classes(plan) == (pairs.items % 3).tolist()
    assert torch.equal(held_out_pairs(run, 2).low_res, pairs.low_res[:2])
    low_res, _ = items_of(run, 60)
    order = {int(item): k for k, item in enumerate(open_split(run.config).held_out)}
    assert torch.equal(pairs.low_res, low_res[[order[int(item)] for item in pairs.items]])


def test_signals_and_volumes_and_what_is_said_when_their_data_is_gone(tmp_path, capsys):
    flat = images(40, 16)
    for x, layout, scale, held_out, message in (
        (flat[:, 0, :, 0], "NL", "4", "0", "has no held-out items"),
        (flat.reshape(40, 4, 8, 8), "NDHW", "[1,2,4]", "0.3", "which are missing"),
    ):
        data, out = tmp_path / f"{layout}.npy", tmp_path / layout
        np.save(data, x)
        task = ("task=super_resolution", f"scale={scale}", f"data.held_out={held_out}")
        seen = ("training.steps=1", "training.preview_every=1", "training.validate_every=1")
        train(data, out, *TINY, *task, *seen, f"data.layout={layout}")
        assert (out / "samples/step_00000001.png").is_file()
        if held_out != "0":
            assert command(["sample", str(out), "-n", "2"]) == 0
            assert (out / "samples/seed_0/grid.png").is_file()
            data.unlink()
            capsys.readouterr()
        assert command(["sample", str(out), "-n", "2"]) == 2
        assert message in capsys.readouterr().err


def test_levels_are_drawn_in_training_and_chosen_elsewhere(folder):
    a, b = final_tensors(folder / "run", 4), final_tensors(folder / "run", 8)
    weight = "network/noise_embed.0.weight"
    sines = slice(a[weight].shape[1] // 2, None)  # of level 0 they are 0, and learn nothing
    assert not torch.equal(a[weight][:, sines], b[weight][:, sines])
    config = iddpm.load(folder / "run").config
    batch = next(held_out_batches(open_split(config).source, [7, 3], batch_size=2))
    device = torch.device("cpu")
    ((_, drawn),) = on_device([batch], config, device, learning=True)
    ((_, again),) = on_device([replace(batch, step=1)], config, device, learning=True)
    ((_, conditioning),) = on_device([replace(batch, step=1)], config, device)
    ((_, same),) = on_device([batch], config, device)
    assert 0 < float(drawn["low_res_noise"].min()) < float(drawn["low_res_noise"].max()) < 0.3
    assert not torch.equal(drawn["low_res"], again["low_res"])
    assert torch.equal(conditioning["low_res"], same["low_res"])
    assert conditioning["low_res_noise"].tolist() == [0, 0]
