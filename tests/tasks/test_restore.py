"""Trained runs restore what was measured: files in, files out, of any size."""

import json
import math

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

import iddpm
from iddpm.builders.linear_operator import OperatorRequest
from iddpm.cli.main import run as command
from iddpm.data.levels import to_model_range
from iddpm.sampling.operators import Mask, Subsample
from iddpm.sampling.spectral_operators import Convolution, Matrix, gaussian_kernel
from iddpm.tasks.restore import restore
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


def make(folder, name, data, *settings):
    return iddpm.train(
        data,
        out=folder / name,
        settings=[*TINY, "training.steps=4", "data.held_out=0.2", *settings],
        reporter=SilentReporter(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restore")
    np.savez(folder / "x.npz", arr_0=images())
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return make(folder, "run", folder / "x.npz")


def picture(path, size=(8, 8), seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, size, np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def mask(path, size=(8, 8)):
    marked = np.zeros(size, np.uint8)
    marked[:, size[1] // 2 :] = 255
    Image.fromarray(marked).save(path)
    return marked > 0


@pytest.mark.parametrize("method", ["mmps", "pigdm", "ddnm"])
@pytest.mark.parametrize("size", [(8, 8), (20, 13), (5, 7)])  # the trained, in tiles, smaller
def test_known_pixels_are_kept_in_files_of_any_size(run, tmp_path, method, size):
    before, marked = picture(tmp_path / "a.png", size), mask(tmp_path / "m.png", size)
    request = OperatorRequest("mask", mask=tmp_path / "m.png")
    a, *_ = restore(run, [tmp_path / "a.png"], request, method=method, steps=2, out=tmp_path / "o")
    after = pixels(a)
    assert (a.name, after.shape) == ("a.png", size)
    assert np.array_equal(after[~marked], before[~marked])
    assert not np.array_equal(after[marked], before[marked])


def test_subsampled_pixels_are_kept_and_several_samples_have_mean_and_spread(run, tmp_path):
    before = picture(tmp_path / "a.png", (6, 5))
    request = OperatorRequest("subsample", factor=(2, 3))
    written = restore(run, [tmp_path / "a.png"], request, n=3, steps=2, out=tmp_path / "o")
    names = ["a.0.png", "a.1.png", "a.2.png", "a.mean.png", "a.std.npy"]
    assert [path.name for path in written] == [*names, "comparison.png", "restoration.json"]
    versions = np.stack([pixels(path) for path in written[:3]]).astype(float)
    assert versions.shape == (3, 12, 15)
    assert np.array_equal(versions[:, ::2, ::3], [before] * 3)
    assert not np.array_equal(versions[0], versions[1])
    spread = np.load(written[4])
    assert np.abs(pixels(written[3]) - versions.mean(0)).max() <= 1
    assert np.abs(spread - versions.std(0, ddof=1)).max() < 1
    assert np.abs(spread[::2, ::3]).max() == 0
    manifest = json.loads(written[-1].read_text())
    assert manifest["complete"]
    facts = manifest["made"]
    assert facts["method"] == "pigdm"
    assert facts["samples"] == 3
    alone = restore(
        run, [tmp_path / "a.png"], request, n=1, seed=1, steps=2, out=tmp_path / "alone"
    )
    assert np.array_equal(pixels(alone[0]), versions[1])


def test_measurements_agree_with_what_was_restored(run, folder):
    """Without noise by every operator; with noise about as well as the noise allows."""
    x = to_model_range(images(2).transpose(0, 3, 1, 2), 8)
    for operator in (
        Convolution((1, 8, 8), gaussian_kernel(0.7, 2)),
        Matrix((1, 8, 8), torch.randn(9, 64, generator=torch.Generator().manual_seed(0))),
    ):
        y = operator.forward(x)
        for method in ("mmps", "ddnm"):
            back = run.restore(y, operator, method=method, steps=4)
            assert float((operator.forward(back) - y).abs().max()) < 1e-3
        noisy = run.restore(y, operator, noise=0.1, steps=4, clip=False)
        assert float((operator.forward(noisy) - y).abs().mean()) > 1e-3


def test_an_item_depends_on_its_seed_and_number_alone(run):
    operator = Mask((1, 8, 8), torch.arange(8) < 4)
    y = operator.forward(torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    whole = run.restore(y, operator, steps=3)
    assert torch.allclose(run.restore(y, operator, steps=3, batch_size=2), whole, atol=1e-4)
    assert torch.allclose(run.restore(y[2:], operator, steps=3, start=2), whole[2:], atol=1e-4)
    assert not torch.allclose(run.restore(y, operator, steps=3, seed=1), whole, atol=1e-2)


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "previous", "edm"])
def test_whatever_is_predicted_and_however_it_is_sampled(folder, tmp_path, predicts):
    run = make(folder, predicts, folder / "x.npz", f"diffusion.predicts={predicts}")
    operator = Subsample((1, 8, 8), (2, 2))
    y = operator.forward(to_model_range(images(2).transpose(0, 3, 1, 2), 8))
    for sampler in ("ddpm", "ddim", "dpmpp_2m"):
        x = run.restore(y, operator, sampler=sampler, steps=3)
        assert torch.equal(operator.forward(x), y)
        assert x.isfinite().all()


@pytest.mark.parametrize(
    ("name", "shape", "layout"),
    [("signal", (40, 2, 32), "NCL"), ("volume", (40, 1, 4, 8, 8), "NCDHW")],
)
def test_signals_and_volumes(folder, tmp_path, name, shape, layout):
    values = np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)
    run = make(folder, name, values, f"data.layout={layout}")
    big = tuple(2 * n for n in shape[2:])
    x = np.random.default_rng(1).uniform(-1, 1, (shape[1], *big)).astype(np.float32)
    for request in (
        OperatorRequest("downscale", factor=(2,)),
        OperatorRequest("blur", width=1.0),
        OperatorRequest("subsample", factor=(1,) * (len(big) - 1) + (2,)),
    ):
        np.save(tmp_path / "x.npy", x)
        out = tmp_path / request.name
        written = restore(run, [tmp_path / "x.npy"], request, simulate=True, steps=2, out=out)
        assert np.load(written[0]).reshape(x.shape).shape == x.shape
        quality = json.loads(written[-1].read_text())["made"]["quality"]
        assert math.isfinite(quality["one sample"]["psnr"])
        assert (quality["one sample"]["misfit"] == 0) == (request.name == "subsample")


def test_a_volume_keeps_its_space(folder, tmp_path):
    (tmp_path / "in").mkdir()
    for k in range(12):
        voxels = np.random.default_rng(k).integers(0, 256, (8, 8, 4)).astype(np.uint8)
        affine = np.diag([2.0, 3.0, 4.0, 1.0])
        nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / f"in/{k}.nii.gz")
    run = make(folder, "nifti", tmp_path / "in")
    written = restore(
        run, [tmp_path / "in/0.nii.gz"], OperatorRequest("blur", width=0.5), steps=1,
        out=tmp_path / "o",
    )  # fmt: skip
    restored = nibabel.load(written[0])
    assert restored.shape == (8, 8, 4)
    assert np.array_equal(restored.affine, affine)
    for name, first in (("subsample", 0.0), ("downscale", -0.25)):
        out = tmp_path / name
        request = OperatorRequest(name, factor=(2, 1, 1))
        written = restore(run, [tmp_path / "in/0.nii.gz"], request, steps=1, out=out)
        restored = nibabel.load(written[0])
        assert restored.shape == (16, 8, 4)
        assert np.allclose(restored.affine @ [0, 0, 0, 1], affine @ [first, 0, 0, 1])
        assert np.allclose(restored.affine @ [2, 0, 0, 0], affine @ [1, 0, 0, 0])


def test_arrays_are_operators_by_their_shape(run, tmp_path, capsys):
    """A matrix of a column for each value, or a kernel, in the data's own numbers."""
    x = images(2)[..., 0].astype(np.float64)
    matrix = np.random.default_rng(0).normal(size=(10, 64))
    np.save(tmp_path / "a.npy", matrix)
    np.save(tmp_path / "y.npy", x.reshape(2, 64) @ matrix.T)
    out, *_ = restore(
        run, [tmp_path / "y.npy"], OperatorRequest(str(tmp_path / "a.npy")), noise=0.0, steps=2,
        out=tmp_path / "o",
    )  # fmt: skip
    restored = np.load(out)
    assert (restored.shape, restored.dtype) == ((2, 8, 8), np.uint8)
    of_model = Matrix((1, 8, 8), torch.from_numpy(matrix))
    y = of_model.forward(to_model_range(x.astype(np.uint8), 8)[:, None].double()).float()
    drawn = (run.restore(y, of_model, steps=2).clamp(-1, 1) + 1) * 127.5
    assert np.abs(restored - drawn[:, 0].numpy()).max() <= 1  # the same, in other units
    assert "measured by a matrix of 10 x 64" in capsys.readouterr().out
    kernel = np.array([[0.0, 0.5], [0.25, 0.75]])  # not even, of sum 1.5
    np.save(tmp_path / "k.npy", kernel)
    operator = Convolution((1, 8, 8), torch.from_numpy(kernel))
    y = operator.forward(torch.from_numpy(x)[:, None])[:, 0].numpy()
    np.save(tmp_path / "y.npy", y)
    out, *_ = restore(
        run, [tmp_path / "y.npy"], OperatorRequest(str(tmp_path / "k.npy")), steps=2,
        out=tmp_path / "k",
    )  # fmt: skip
    assert np.load(out).shape == (2, 8, 8)
    assert "convolution with 2 x 2 weights" in capsys.readouterr().out


def test_the_command_simulates_and_reports(run, tmp_path, capsys):
    picture(tmp_path / "a.png", (16, 12))
    out = tmp_path / "o"
    status = command(
        ["restore", str(run.directory), "0", "1", "--operator", "downscale", "--factor", "2",
         "--noise", "0.05", "--simulate", "-n", "2", "--steps", "2", "--out", str(out)]
    )  # fmt: skip
    printed = capsys.readouterr().out
    assert status == 0
    assert "2 items, 2 samples of each: pigdm, 2 evaluations" in printed
    assert "measured by means of blocks of 2 x 2, noise 0.05" in printed
    for row in ("pseudo-inverse", "bicubic", "one sample", "mean of 2"):
        assert f"| {row} |" in printed
    with Image.open(out / "comparison.png") as image:  # both side by side, five columns each
        assert image.size == (2 + 10 * 66, 68)
    assert (out / "000001.mean.png").is_file()
    assert command(["restore", str(run.directory), "0", "--operator", "blur", "--width", "1",
                    "--simulate", "--out", str(out)]) == 2  # fmt: skip
    assert "comparison.png exists and would be overwritten" in capsys.readouterr().err
    real = ["restore", str(run.directory), str(tmp_path / "a.png"), "--steps", "1"]
    assert command([*real, "--operator", "blur", "--width", "1", "--out", str(tmp_path / "b")]) == 0
    printed = capsys.readouterr().out
    assert "convolution with 9 x 9 weights, mirrored ends, noise 0.00226" in printed  # rounding


def test_classes(folder, tmp_path):
    np.savez(folder / "y.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    run = make(folder, "classes", folder / "y.npz", "model.class_conditional=true")
    picture(tmp_path / "a.png")
    request, seen = OperatorRequest("blur", width=0.7), []
    hook = run.denoiser.network.register_forward_hook(
        lambda module, args, kwargs, output: seen.append(kwargs["y"].tolist()), with_kwargs=True
    )
    for k, options in enumerate(({}, {"class_name": "2"})):
        restore(run, [tmp_path / "a.png"], request, steps=1, out=tmp_path / str(k), **options)
    hook.remove()
    assert {tuple(labels) for labels in seen} == {(-1,), (2,)}
    with pytest.raises(ValueError, match="not one of the 3 classes"):
        restore(run, [tmp_path / "a.png"], request, class_name="7", out=tmp_path / "x")
    told = make(
        folder, "told", folder / "y.npz", "model.class_conditional=true",
        "training.label_dropout=0",
    )  # fmt: skip
    with pytest.raises(ValueError, match="needs a class for every sample"):
        restore(told, [tmp_path / "a.png"], request, out=tmp_path / "x")


def test_what_does_not_work_is_said_and_nothing_is_written(run, folder, tmp_path):
    picture(tmp_path / "a.png")
    mask(tmp_path / "m.png", (4, 4))
    np.save(tmp_path / "wide.npy", np.zeros((3, 63)))
    np.save(tmp_path / "bad.npy", np.full((3, 3), np.nan))
    np.save(tmp_path / "ok.npy", np.ones((3, 64)))
    np.save(tmp_path / "y.npy", np.zeros(4))
    cases = [
        ({"name": "sharpen"}, "operator 'sharpen' is unknown: use blur, mask, subsample or down"),
        ({"name": "blur"}, "operator blur needs --width"),
        ({"name": "mask", "width": 2.0}, "width is an option of blur, and the operator is mask"),
        ({"name": "blur", "width": -1.0}, "a blur of width -1 is none"),
        ({"name": "subsample", "factor": (2, 2, 2)}, "one number for each of the 2 axes"),
        ({"name": "mask", "mask": tmp_path / "m.png"}, r"has shape \(4, 4\) and the model's data"),
        (
            {"name": str(tmp_path / "wide.npy")},
            r"has shape \(3, 63\), which fits no operator on it",
        ),
        ({"name": str(tmp_path / "bad.npy")}, "holds NaN or infinity"),
        ({"name": str(tmp_path / "ok.npy")}, "a.png cannot be read as measurements of a matrix"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            restore(run, [tmp_path / "a.png"], OperatorRequest(**options), out=tmp_path / "o")
    blur = OperatorRequest("blur", width=1.0)
    with pytest.raises(ValueError, match=r"y\.npy has shape \(4,\), and the operator has 3 rows"):
        restore(run, [tmp_path / "y.npy"], OperatorRequest(str(tmp_path / "ok.npy")))
    with pytest.raises(ValueError, match="method 'magic' is unknown: use pigdm, mmps or ddnm"):
        restore(run, [tmp_path / "a.png"], blur, method="magic", out=tmp_path / "o")
    with pytest.raises(ValueError, match="noise is -1"):
        restore(run, [tmp_path / "a.png"], blur, noise=-1.0, out=tmp_path / "o")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        restore(run, [tmp_path / "b.png"], blur, out=tmp_path / "o")
    with pytest.raises(FileNotFoundError, match="no file 3: to measure and restore held-out it"):
        restore(run, ["3"], blur, out=tmp_path / "o")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        restore(run, [tmp_path / "a.png"], OperatorRequest("none.npy"), out=tmp_path / "o")
    assert not (tmp_path / "o").exists()
    finer = make(folder, "finer", folder / "x.npz", "task=super_resolution", "scale=2")
    with pytest.raises(ValueError, match="is a super-resolution model"):
        restore(finer, [tmp_path / "a.png"], blur)


def test_nothing_is_overwritten_but_what_an_interrupted_call_left(run, tmp_path, monkeypatch):
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", seed=1)
    files, out = [tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "o"
    request, drawn = OperatorRequest("blur", width=1.0), run.restore

    def stopped(*args, start=0, **options):
        if start:
            raise KeyboardInterrupt
        return drawn(*args, start=start, **options)

    with monkeypatch.context() as patch:
        patch.setattr(run, "restore", stopped)
        with pytest.raises(KeyboardInterrupt):
            restore(run, files, request, steps=1, out=out)
    assert {path.name for path in out.iterdir()} == {"a.png", "restoration.json"}
    assert not json.loads((out / "restoration.json").read_text())["complete"]
    before = (out / "a.png").read_bytes()
    with pytest.raises(FileExistsError, match=r"a\.png exists and would be overwritten"):
        restore(run, files, request, steps=1, seed=1, out=out)
    restore(run, files, request, steps=1, out=out)
    assert (out / "a.png").read_bytes() == before
    assert json.loads((out / "restoration.json").read_text())["complete"]
    with pytest.raises(FileExistsError, match=r"a\.png exists and would be overwritten"):
        restore(run, files, request, steps=1, out=out)


def test_noisy_measurements_may_leave_the_range_of_the_data(run, tmp_path):
    y = np.random.default_rng(0).normal(128, 120, (8, 8)).astype(np.float32)
    np.save(tmp_path / "y.npy", y)
    blur = OperatorRequest("blur", width=0.7)
    out, *_ = restore(run, [tmp_path / "y.npy"], blur, noise=0.9, steps=2, out=tmp_path / "o")
    assert np.load(out).shape == (8, 8)


@pytest.mark.parametrize(
    "setting",
    [
        "model.use_checkpoint=true",
        "diffusion.predicts=categorical",
        "diffusion.self_condition=true",
        "model.wavelets=1",
        "sampling.precision=bf16",
    ],
)
def test_whatever_the_network_is_tiles_and_gradients_work(folder, setting):
    run = make(folder, setting.split("=")[0], folder / "x.npz", setting)
    operator = Convolution((1, 12, 8), gaussian_kernel(0.7, 2))
    y = operator.forward(torch.rand(1, 1, 12, 8, generator=torch.Generator().manual_seed(0)))
    for method in ("pigdm", "mmps"):
        x = run.restore(y, operator, method=method, steps=3)
        assert float((operator.forward(x) - y).abs().max()) < 1e-3
