"""Editing with trained runs: files in, files out."""

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.evaluation.fidelity import psnr_of_all
from iddpm.tasks.edit import edit, inpaint, interpolate, open_item
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


def make(folder, name, values, *settings, labels=False):
    data = folder / f"{name}.npz"
    arrays = {"arr_0": values} | ({"arr_1": np.arange(len(values)) % 3} if labels else {})
    np.savez(data, **arrays)
    return iddpm.train(
        data,
        out=folder / name,
        settings=[*TINY, "training.steps=4", "data.held_out=0.2", *settings],
        reporter=SilentReporter(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("edit")


@pytest.fixture(scope="module")
def run(folder):
    return make(folder, "plain", images())


@pytest.fixture
def files(tmp_path):
    """A picture and a mask of its right half."""
    Image.fromarray(images(3)[1, ..., 0]).save(tmp_path / "a.png")
    mask = np.zeros((8, 8), np.uint8)
    mask[:, 4:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    return tmp_path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("options", [{}, {"resample": 2, "jump": 2}, {"sampler": "unipc_3"}])
def test_known_pixels_are_unchanged_in_the_file(run, files, options):
    before = pixels(files / "a.png")
    grid, *versions = inpaint(run, files / "a.png", files / "mask.png", n=3, out=files, **options)
    assert [path.name for path in versions] == ["000000.png", "000001.png", "000002.png"]
    drawn = [pixels(path) for path in versions]
    for after in drawn:
        assert np.array_equal(after[:, :4], before[:, :4])
        assert not np.array_equal(after[:, 4:], before[:, 4:])
    assert not np.array_equal(drawn[0], drawn[1])
    assert pixels(grid).shape[1] > 5 * 64  # the item, what is kept of it, three versions


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "previous", "edm"])
def test_known_pixels_are_unchanged_in_floats_whatever_is_predicted(folder, tmp_path, predicts):
    values = np.random.default_rng(0).uniform(-1, 1, (40, 1, 8, 8)).astype(np.float32)
    run = make(folder, predicts, values, f"diffusion.predicts={predicts}", "data.layout=NCHW")
    np.save(tmp_path / "x.npy", values[0])
    np.save(tmp_path / "mask.npy", np.eye(8))
    for sampler in (None, "ddpm", "dpmpp_2m"):
        *_, path = inpaint(
            run, tmp_path / "x.npy", tmp_path / "mask.npy", n=2, out=tmp_path, sampler=sampler
        )
        with np.load(path) as arrays:
            x = arrays["arr_0"][..., 0]
        known = np.eye(8) == 0
        assert np.array_equal(x[:, known], np.stack([values[0, 0][known]] * 2))
        assert not np.array_equal(x[0], x[1])


@pytest.mark.parametrize(
    ("name", "shape", "layout"),
    [("signal", (40, 2, 32), "NCL"), ("volume", (40, 1, 4, 8, 8), "NCDHW")],
)
def test_signals_and_volumes(folder, tmp_path, name, shape, layout):
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    run = make(folder, name, values, f"data.layout={layout}")
    np.save(tmp_path / "x.npy", values[0])
    mask = np.zeros(shape[2:])
    mask[..., :3] = 1
    np.save(tmp_path / "mask.npy", mask)
    written = inpaint(run, tmp_path / "x.npy", tmp_path / "mask.npy", n=2, out=tmp_path / "i")
    assert [path.name for path in written] == ["before_after.png", "samples.npz"]
    with np.load(written[1]) as arrays:  # channels last
        x = np.moveaxis(arrays["arr_0"], -1, 1)
    assert np.array_equal(x[:, ..., 3:], np.stack([values[0, ..., 3:]] * 2))
    assert not np.array_equal(x[0, ..., :3], x[1, ..., :3])
    written = edit(run, tmp_path / "x.npy", strength=0.4, n=2, out=tmp_path / "e")
    assert written[1].is_file()
    written = interpolate(run, 0, 1, frames=3, steps=5, out=tmp_path / "t")
    assert {path.name for path in written} == {
        "before_after.png", "interpolation.gif", "samples.npz"
    }  # fmt: skip


def test_the_ends_of_an_interpolation(run, files, capsys):
    grid, animation, *frames = interpolate(
        run, files / "a.png", 2, frames=4, steps=49, out=files / "out"
    )
    assert len(frames) == 4
    with Image.open(animation) as image:
        assert image.n_frames == 4
    assert pixels(grid).shape[1] > 6 * 64
    assert "the ends reproduce the items at" in capsys.readouterr().out
    first = open_item(run, files / "a.png").x
    back = torch.from_numpy(pixels(frames[0]) / 127.5 - 1)[None].float()
    assert psnr_of_all(back, first) > 25  # 50 steps and hardly any training
    assert psnr_of_all(first, first) == float("inf")


def test_strength_says_how_much_is_kept(run, files):
    before = pixels(files / "a.png").astype(float)
    distances = []
    for strength in (0.02, 0.3, 1.0):
        _, *versions = edit(
            run, files / "a.png", strength=strength, n=2, steps=20, out=files / "out"
        )
        distances.append(np.mean([np.abs(pixels(path) - before).mean() for path in versions]))
    assert distances == sorted(distances)
    assert distances[0] < 4 < distances[2]
    a, b = (
        edit(run, files / "a.png", n=n, seed=3, sampler="ddpm", out=files / f"n{n}")[1]
        for n in (1, 3)
    )
    assert np.abs(pixels(a).astype(int) - pixels(b)).max() <= 1  # version 0 whatever n is


def test_classes(folder, files):
    run = make(folder, "classes", images(), "model.class_conditional=true", labels=True)
    for options in ({}, {"class_name": "2"}, {"class_name": 1, "guidance": 3.0}):
        assert edit(run, 0, n=1, out=files / "e", **options)
        assert inpaint(run, 0, files / "mask.png", n=1, out=files / "i", **options)
    assert interpolate(run, 0, 1, frames=2, steps=5, class_name=0, out=files / "t")
    with pytest.raises(ValueError, match="not one of the 3 classes"):
        edit(run, 0, class_name="7")
    conditioned = make(
        folder, "conditioned", images(), "model.class_conditional=true", "training.label_dropout=0",
        labels=True,
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"label_dropout=0 and needs a class"):
        edit(conditioned, 0)


def test_a_self_conditioned_model(folder, files):
    run = make(folder, "self", images(), "diffusion.predicts=x0", "diffusion.loss=simple",
               "diffusion.variance=fixed_small", "diffusion.self_condition=true")  # fmt: skip
    assert edit(run, 0, n=1, out=files / "e")
    assert inpaint(run, 0, files / "mask.png", n=1, resample=2, jump=2, out=files / "i")
    assert interpolate(run, 0, 1, frames=2, steps=5, out=files / "t")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["edit", "RUN", "none.png"], "there is no file none.png"),
        (["edit", "RUN", "999"], "item 999 was requested"),
        (["edit", "RUN", "0", "--strength", "0"], "strength=0.0 must lie above 0"),
        (["edit", "RUN", "0", "--strength", "1.5"], "strength=1.5"),
        (["edit", "RUN", "0", "--spacing", "optimal"], "spacing=optimal chooses timesteps of the"),
        (["edit", "RUN", "0", "--spacing", "3,2"], "an edit uses a part of it: use auto, even"),
        (["edit", "RUN", "0", "--spacing", "odd"], "spacing=odd"),
        (["edit", "RUN", "0", "-n", "0"], "cannot draw 0 versions"),
        (["edit", "RUN", "0", "--class", "1"], "trained without classes"),
        (["edit", "RUN", "0", "--guidance", "2"], "class_conditional=false"),
        (["inpaint", "RUN", "0", "--mask", "FILES/a.txt"], "there is no file"),
        (["inpaint", "RUN", "0", "--mask", "FILES/small.npy"], "mask"),
        (["inpaint", "RUN", "FILES/small.npy", "--mask", "FILES/mask.png"], "shape (5, 5)"),
        (["inpaint", "RUN", "0", "--mask", "FILES/mask.png", "--resample", "0"], "resample=0"),
        (["inpaint", "RUN", "0", "--mask", "FILES/mask.png", "--resample", "2", "--jump", "5"],
         "jump=5 cannot go back within 5 steps"),
        (["interpolate", "RUN", "0", "1", "--frames", "1"], "frames=1"),
        (["interpolate", "RUN", "0", "1", "--steps", "500"], "cannot take 500 steps"),
        (["interpolate", "RUN", "0", "nothing"], "there is no file nothing"),
    ],
)  # fmt: skip
def test_bad_requests_write_nothing(run, files, capsys, arguments, message):
    np.save(files / "small.npy", np.ones((5, 5)))
    names = {"RUN": str(run.directory)}
    arguments = [names.get(a, a.replace("FILES", str(files))) for a in arguments]
    out = files / "out"
    assert command([*arguments, "--out", str(out)]) == 2
    line = capsys.readouterr().err.strip()
    assert message in line
    assert line.startswith("error: ")
    assert "\n" not in line
    assert not out.exists()


def test_the_commands(run, files, capsys):
    a, mask, where = str(files / "a.png"), str(files / "mask.png"), str(run.directory)
    assert command(["inpaint", where, a, "--mask", mask, "--resample", "2", "--jump", "2"]) == 0
    assert command(["edit", where, a, "--sampler", "ipndm", "--threads", "1"]) == 0
    assert command(["interpolate", where, a, "0", "--steps", "5"]) == 0
    printed = capsys.readouterr().out
    assert "4 versions, each 5 evaluations: ddim, even, 2 passes over jumps of 2" in printed
    for name in ("inpainting", "edit", "interpolation"):
        assert f"wrote {run.directory / 'samples' / name / 'before_after.png'}" in printed


def test_tiffs_of_numbers_come_out_as_such_files(tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(8):
        x = np.random.default_rng(k).uniform(0, 1000, (8, 8)).astype(np.float32)
        tifffile.imwrite(tmp_path / f"in/{k}.tif", x, photometric="minisblack", metadata=None)
    settings = [*TINY, "training.steps=1"]
    run = iddpm.train(str(tmp_path / "in"), settings=settings, out=tmp_path / "run")
    np.save(tmp_path / "mask.npy", np.eye(8))
    item = tmp_path / "in/0.tif"
    written = inpaint(run, item, tmp_path / "mask.npy", n=2, steps=2, out=tmp_path / "i")
    assert [path.name for path in written] == ["before_after.png", "000000.tif", "000001.tif"]
    before, after = tifffile.imread(item), tifffile.imread(written[1])
    assert after.dtype == np.float32
    np.testing.assert_allclose(after[np.eye(8) == 0], before[np.eye(8) == 0], atol=1e-3)
    *_, path = edit(run, item, n=1, steps=2, out=tmp_path / "e")
    assert tifffile.imread(path).shape == (8, 8)
