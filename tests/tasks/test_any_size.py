"""Samples, inpainting and paired data of another size than the training's, by tiles."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.tasks.edit import inpaint
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


def make(folder, name, data, *settings):
    return iddpm.train(
        data,
        out=folder / name,
        settings=[*TINY, "training.steps=4", *settings],
        reporter=SilentReporter(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("any_size")
    np.savez(folder / "x.npz", arr_0=images())
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return make(folder, "run", folder / "x.npz")


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_samples_of_any_size_are_made_of_tiles_of_the_trained_one(run):
    seen = []
    hook = run.denoiser.network.register_forward_hook(
        lambda module, args, output: seen.append(tuple(args[0].shape))
    )
    x = run.sample(2, size=(20, 13), steps=2, batch_size=5)
    hook.remove()
    assert x.shape == (2, 1, 20, 13)
    assert {shape[1:] for shape in seen} == {(1, 8, 8)}
    assert max(shape[0] for shape in seen) <= 5
    assert torch.equal(run.sample(3, size=(8, 8)), run.sample(3))
    assert torch.equal(run.sample(2, size=(4, 6)), run.sample(2)[:, :, 2:6, 1:7])
    one = run.sample(1, size=(20, 13), steps=2)
    assert torch.allclose(one, x[:1], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape", "layout", "size"),
    [("signal", (40, 2, 32), "NCL", (100,)), ("volume", (40, 1, 4, 8, 8), "NCDHW", (4, 12, 9))],
)
def test_longer_signals_and_larger_volumes(folder, tmp_path, name, shape, layout, size):
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    run = make(folder, name, values, f"data.layout={layout}")
    text = "x".join(map(str, size))
    assert command(["sample", str(run.directory), "-n", "2", "--size", text, "--steps", "1",
                    "--npz", "--out", str(tmp_path)]) == 0  # fmt: skip
    with np.load(tmp_path / "samples.npz") as arrays:
        assert arrays["arr_0"].shape == (2, *size, shape[1])
    assert json.loads((tmp_path / "samples.json").read_text())["made"]["size"] == list(size)


def test_a_ring_is_one_tile_along_its_axis(folder):
    run = make(folder, "ring", folder / "x.npz", "model.circular=[false,true]")
    assert run.sample(1, size=(14, 12), steps=1).shape == (1, 1, 14, 12)
    with pytest.raises(ValueError, match="use a multiple of 2"):
        run.sample(1, size=(14, 13), steps=1)


def test_what_cannot_be_drawn_is_said(run, folder, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"size 20 needs 2 axes of 1 or more.*8 x 8"):
        run.sample(1, size=(20,))
    with pytest.raises(ValueError, match=r"overlap=1 is a share of a tile"):
        run.sample(1, size=(20, 20), overlap=1.0)
    finer = make(folder, "finer", folder / "x.npz", "task=super_resolution", "scale=2")
    assert command(["sample", str(finer.directory), "--size", "20x20"]) == 2
    assert "use iddpm upscale, which takes inputs of any size" in capsys.readouterr().err
    assert command(["sample", str(run.directory), "--size", "20by20"]) == 2
    assert "'20by20' is not a size such as 64, 64x48" in capsys.readouterr().err


def test_a_file_is_inpainted_at_its_own_size(run, tmp_path, capsys):
    before = np.random.default_rng(0).integers(0, 256, (20, 13), np.uint8)
    Image.fromarray(before).save(tmp_path / "a.png")
    marked = np.zeros((20, 13), np.uint8)
    marked[5:15, 3:9] = 255
    Image.fromarray(marked).save(tmp_path / "m.png")
    assert command(
        ["inpaint", str(run.directory), str(tmp_path / "a.png"), "--mask", str(tmp_path / "m.png"),
         "--tiled", "-n", "2", "--steps", "3", "--out", str(tmp_path / "o")]
    ) == 0  # fmt: skip
    assert "2 versions, each 3 evaluations: ddim, even in 6 tiles" in capsys.readouterr().out
    for k in range(2):
        after = pixels(tmp_path / f"o/{k:06d}.png")
        assert after.shape == (20, 13)
        assert np.array_equal(after[marked == 0], before[marked == 0])
        assert not np.array_equal(after[marked > 0], before[marked > 0])
    small = before[:5, :6]  # mirrored up to a tile, and cropped again
    np.save(tmp_path / "a.npy", small)
    np.save(tmp_path / "m.npy", np.eye(5, 6))
    _, path = inpaint(
        run, tmp_path / "a.npy", tmp_path / "m.npy", n=1, tiled=True, out=tmp_path / "s", steps=2
    )
    after = np.load(path)
    assert after.dtype == np.uint8
    assert np.array_equal(after[np.eye(5, 6) == 0], small[np.eye(5, 6) == 0])
    np.save(tmp_path / "several.npy", np.stack([small] * 3))
    with pytest.raises(ValueError, match="holds 3 items: give a file of one"):
        inpaint(run, tmp_path / "several.npy", tmp_path / "m.npy", tiled=True)


def test_paired_data_of_another_size_is_drawn_for(folder, tmp_path, capsys):
    for name in ("x", "given"):
        (folder / name).mkdir()
        for k, item in enumerate(images(20)):
            Image.fromarray(item[..., 0]).save(folder / f"{name}/{k}.png")
    run = make(folder, "paired", folder / "x", f"data.given={folder / 'given'}")
    Image.fromarray(images(1, size=20)[0, :, :13, 0]).save(tmp_path / "large.png")
    file = str(tmp_path / "large.png")
    start = ["sample", str(run.directory), "--given", file, "--steps", "2"]
    assert command([*start, "--out", str(tmp_path / "o")]) == 2
    assert "or draw samples of its size in tiles with --size 20x13" in capsys.readouterr().err
    assert command([*start, "--size", "20x13", "--out", str(tmp_path / "o")]) == 0
    assert pixels(tmp_path / "o/000000.png").shape == (20, 13)
    assert command(["sample", str(run.directory), "--size", "20x13"]) == 2
    assert "give paired data of that size with --given" in capsys.readouterr().err
    given = torch.rand(1, 1, 20, 13) * 2 - 1
    small = run.sample(1, given={"given": given[..., :5, :6]}, size=(5, 6), steps=2)
    assert small.shape == (1, 1, 5, 6)
    x = run.sample(1, given={"given": given}, size=(20, 13), steps=2)
    other = run.sample(1, given={"given": -given}, size=(20, 13), steps=2)
    assert x.shape == other.shape == (1, 1, 20, 13)
