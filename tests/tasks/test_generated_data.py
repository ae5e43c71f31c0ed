"""Generated data beside real data: as through a run, as torchmetrics, and what is refused."""

import json
import shutil

import numpy as np
import onnx
import pytest
import soundfile
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torchmetrics.functional.image import (
    peak_signal_noise_ratio,
    structural_similarity_index_measure,
)
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

import iddpm
from iddpm.cli.main import run as command
from iddpm.networks.inception import InceptionV3
from iddpm.tasks.evaluation_report import Evaluation
from tests.conftest import TINY, images
from tests.tasks.test_evaluate import failing, squares

OPTIONS = [item for setting in TINY for item in ("-s", setting)]


def write_pictures(x, folder, names="{:04d}.png"):
    """Write pictures [N, H, W] or [N, H, W, C] to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, item in enumerate(x):
        Image.fromarray(item).save(folder / names.format(number))
    return folder


def graph(path, size, count=6, **facts):
    """Write an ONNX extractor: ``count`` random directions of pictures; return them."""
    directions = np.random.default_rng(3).normal(size=(size, count)).astype(np.float32) / 100
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    side = int(size**0.5)
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, side, side])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", count])
    weights = [numpy_helper.from_array(directions, "w")]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [taken], [given], weights),
        opset_imports=[helper.make_opsetid("", 13)],
        ir_version=8,
    )
    onnx.save(model, str(path))
    path.with_suffix(".json").write_text(json.dumps(facts))
    return torch.from_numpy(directions)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two draws of squares and noise, as pictures; and a run trained on the first draw."""
    folder = tmp_path_factory.mktemp("judge")
    noise = np.random.default_rng(5).integers(0, 256, (120, 8, 8)).astype(np.uint8)
    sets = {"real": squares(400)[0], "again": squares(300, seed=1)[0], "noise": noise}
    for name, x in sets.items():
        write_pictures(x, folder / name)
        np.savez(folder / f"{name}.npz", arr_0=x[..., None])
    train = ["train", str(folder / "real"), "--out", str(folder / "run"), "--steps", "1"]
    assert command([*train, *OPTIONS, "-s", "data.held_out=0"]) == 0
    return folder


def evaluated(folder, real, generated, *more):
    """Evaluate by the command line and return the report."""
    out = folder / "out"
    arguments = ["--real", str(real), "--generated", str(generated), "--out", str(out)]
    assert command(["evaluate", *arguments, *more]) == 0
    return json.loads((out / "report.json").read_text())


def test_it_equals_the_evaluation_through_a_run(folder, tmp_path):
    graph(tmp_path / "net.onnx", 64)
    for features, data in (("pca", []), (str(tmp_path / "net.onnx"), [str(folder / "real")])):
        through = tmp_path / "through"
        run = ["evaluate", str(folder / "run"), *data, "--samples", str(folder / "again.npz")]
        assert command([*run, "--features", features, "--out", str(through)]) == 0
        wanted = json.loads((through / "report.json").read_text())
        found = evaluated(tmp_path, folder / "real", folder / "again", "--features", features)
        assert found["samples"] == wanted["samples"]
        assert found["features"] == wanted["features"]
        assert found["frechet_name"] == wanted["frechet_name"]
        for name in ("count", "features", "rounded_to_bits"):
            assert found["reference"][name] == wanted["reference"][name]
        picture, other = (
            Image.open(tmp_path / name / "neighbours.png") for name in ("out", "through")
        )
        assert np.array_equal(np.asarray(picture), np.asarray(other))


def test_real_data_is_near_and_noise_is_far(folder, capsys):
    near = evaluated(folder, folder / "real", folder / "again")
    text = capsys.readouterr().out
    far = evaluated(folder, folder / "real", folder / "noise")
    real, noise = near["samples"], far["samples"]
    assert near["features"]["name"] == "pixel PCA"
    assert real["frechet_distance"]["value"] < 0.05 * noise["frechet_distance"]["value"]
    assert abs(real["kernel_distance"]["value"]) < 4 * real["kernel_distance"]["error"]
    assert noise["kernel_distance"]["value"] > 4 * noise["kernel_distance"]["error"]
    assert real["precision"] > 0.8 > 0.2 > noise["precision"]
    assert near["identical"] == {"searched": 300, "found": 0}
    assert f"# Evaluation of {folder / 'again'}" in text
    assert "| Frechet distance (pixel PCA features) |" in text
    assert (folder / "out/report.md").read_text().startswith("# Evaluation of")


def test_fid_and_kid_are_those_of_torchmetrics(folder, tmp_path, capsys):
    facts = {"name": "custom", "range": [0, 255], "standard_inception": True}
    directions = graph(tmp_path / "net.onnx", 64, **facts)

    class Custom(torch.nn.Module):
        num_features = 6

        def forward(self, levels):
            return levels.flatten(1).float() @ directions

    net = ["--features", str(tmp_path / "net.onnx")]
    found = evaluated(tmp_path, folder / "real", folder / "again", *net)["samples"]
    text = capsys.readouterr().out
    assert "| FID |" in text
    assert "| KID x 1000 |" in text
    real, again = (
        torch.from_numpy(squares(n, seed)[0])[:, None] for n, seed in ((400, 0), (300, 1))
    )
    fid = FrechetInceptionDistance(feature=Custom(), input_img_size=(1, 8, 8))
    kid = KernelInceptionDistance(feature=Custom(), subsets=1, subset_size=300)
    fid.update(real, real=True)
    fid.update(again, real=False)
    kid.update(real[np.linspace(0, 399, 300).round()], real=True)  # as many as there are samples
    kid.update(again, real=False)
    assert found["frechet_distance"]["value"] == pytest.approx(float(fid.compute()), rel=1e-4)
    theirs = float(kid.compute()[0])
    assert found["kernel_distance"]["value"] == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_without_out_the_report_lies_beside_the_generated_data(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "noise", tmp_path / "made/samples")
    result = iddpm.evaluate(folder / "real", tmp_path / "made/samples")
    assert isinstance(result, Evaluation)
    names = {path.name for path in (tmp_path / "made/evaluation").iterdir()}
    assert names == {"report.json", "report.md", "neighbours.png"}
    assert result.report["generated"] == str(tmp_path / "made/samples")
    again = json.loads((tmp_path / "made/evaluation/report.json").read_text())
    assert again["samples"] == result.report["samples"]


@pytest.mark.parametrize("shape", [(40, 2, 16), (40, 1, 2, 6, 6)])
def test_any_data_is_taken_from_files_and_memory(tmp_path, shape):
    values = np.random.default_rng(0).uniform(-1, 1, (2, *shape)).astype(np.float32)
    np.save(tmp_path / "real.npy", values[0])
    layout = "data.layout=NCL" if len(shape) == 3 else "data.layout=NCDHW"
    found = iddpm.evaluate(tmp_path / "real.npy", values[1], settings=[layout], out=tmp_path / "a")
    assert found.report["reference"]["count"] == 40
    assert found.samples.values["precision"] > 0.3
    assert (tmp_path / "a/neighbours.png").is_file()


def test_labels_on_one_side_depths_and_floats(folder, tmp_path):
    x, y = squares(90, 2)
    for item, label in enumerate(y):
        write_pictures(x[item : item + 1], tmp_path / f"labeled/{label}", f"{item}.png")
    floats = (x[:, None] / 127.5 - 1).astype(np.float32)
    np.save(tmp_path / "floats.npy", floats + 1e-4)
    settings = ["-s", "generated.layout=NCHW", "-s", "generated.range=[-1.01, 1.01]"]
    flat = evaluated(tmp_path, tmp_path / "labeled", folder / "noise")
    assert flat["reference"]["count"] == 90
    np.save(tmp_path / "floats.npy", floats)
    found = evaluated(tmp_path, folder / "real", tmp_path / "floats.npy", *settings[:2])
    write_pictures(x, tmp_path / "levels")
    wanted = evaluated(tmp_path, folder / "real", tmp_path / "levels")
    assert found["samples"] == wanted["samples"]  # rounded to the same levels
    assert any("has floats and the real 8 bits, to which" in w for w in found["warnings"])
    stated = evaluated(tmp_path, folder / "real", tmp_path / "floats.npy", *settings)
    assert stated["samples"] != found["samples"]


def test_sounds_of_other_encodings_have_one_full_scale(tmp_path):
    waves = np.random.default_rng(0).uniform(-0.5, 0.5, (16, 64)).astype(np.float32)
    for name, subtype in (("real", "PCM_16"), ("floats", "FLOAT")):
        (tmp_path / name).mkdir()
        for number, wave in enumerate(waves):
            soundfile.write(tmp_path / name / f"{number:02d}.wav", wave, 8000, subtype=subtype)
    found = evaluated(tmp_path, tmp_path / "real", tmp_path / "floats", "--paired")
    assert found["paired"]["ways"]["samples"]["psnr"]["value"] > 90  # equal but for rounding
    assert found["identical"]["found"] == 16


def test_numbers_are_read_by_the_range_of_the_real_data(tmp_path):
    x = np.random.default_rng(0).uniform(100, 900, (2, 30, 1, 8, 8)).astype(np.float32)
    x[0, 0, 0, 0, :2] = 0, 1000
    np.save(tmp_path / "real.npy", x[0])
    np.save(tmp_path / "made.npy", x[1])
    layout = ["data.layout=NCHW"]
    sides = tmp_path / "real.npy", tmp_path / "made.npy"
    found = iddpm.evaluate(*sides, settings=layout, out=tmp_path / "a")
    stated = [*layout, "data.range=[0,1000]"]
    wanted = iddpm.evaluate(*sides, settings=stated, out=tmp_path / "b")
    assert found.samples == wanted.samples


def test_the_same_data_twice_is_said(folder):
    found = evaluated(folder, folder / "real", folder / "real.npz")
    assert found["identical"] == {"searched": 400, "found": 400}
    assert any("400 of 400 generated items are identical" in w for w in found["warnings"])
    assert found["samples"]["frechet_distance"]["value"] == pytest.approx(0, abs=1e-9)


def test_pairs_are_compared_by_psnr_and_ssim_as_torchmetrics_does(tmp_path):
    truth = images(12, 16)[..., 0]
    noise = np.random.default_rng(1).integers(-20, 21, truth.shape)
    made = (truth.astype(int) + noise).clip(0, 255).astype(np.uint8)
    write_pictures(truth, tmp_path / "truth")
    write_pictures(made[::-1], tmp_path / "made", "x{:04d}.bmp")
    for number, path in enumerate(sorted((tmp_path / "made").iterdir())):
        path.rename(tmp_path / f"made/{11 - number:04d}.bmp")  # by name, in another order
    found = evaluated(tmp_path, tmp_path / "truth", tmp_path / "made", "--paired")["paired"]
    a, b = (torch.from_numpy(x)[:, None].double() for x in (made, truth))
    psnr = peak_signal_noise_ratio(a, b, data_range=255.0)
    _, full = structural_similarity_index_measure(
        a, b, data_range=255.0, reduction="none", return_full_image=True
    )
    ways = found["ways"]["samples"]
    assert found["count"] == 12
    assert ways["psnr"]["value"] == pytest.approx(float(psnr), abs=1e-4)
    inner = float(full[..., 5:-5, 5:-5].mean())  # where the window lies within
    assert ways["ssim"]["value"] == pytest.approx(inner, abs=1e-5)
    text = (tmp_path / "out/report.md").read_text()
    assert "| 12 pairs | samples | better |" in text
    (tmp_path / "made/0003.bmp").rename(tmp_path / "made/other.bmp")
    line = ["evaluate", "--real", str(tmp_path / "truth"), "--generated", str(tmp_path / "made")]
    assert command([*line, "--paired"]) == 2


def test_what_cannot_be_compared_is_refused(folder, tmp_path, capsys):
    real, noise = str(folder / "real"), str(folder / "noise")

    def refused(*more, real=real, generated=noise):
        sides = ["--real", str(real), "--generated", str(generated)]
        line = failing(capsys, ["evaluate", *sides, "--out", str(tmp_path / "none"), *more])
        assert not (tmp_path / "none").exists()
        return line

    capsys.readouterr()
    colors = write_pictures(np.zeros((9, 8, 8, 3), np.uint8), tmp_path / "colors")
    wide = write_pictures(np.zeros((9, 8, 16), np.uint8), tmp_path / "wide")
    few = write_pictures(np.zeros((3, 8, 8), np.uint8), tmp_path / "few")
    (tmp_path / "empty").mkdir()
    assert "data.channels=3" in refused(generated=colors)
    assert "data.image_size=[8,16]" in refused(generated=wide)
    assert "the generated data few has 3 items" in refused(generated=few)
    assert "empty" in refused(generated=tmp_path / "empty")
    assert "there is no" in refused(real=tmp_path / "nothing")
    assert "is a run directory, not data" in refused(generated=folder / "run")
    assert "is a run directory, not data" in refused(real=folder / "run")
    assert "lies in" in refused(real=folder, generated=folder / "real")
    np.save(tmp_path / "bytes.npy", np.random.default_rng(0).uniform(0, 250, (9, 1, 8, 8)))
    line = refused("-s", "generated.layout=NCHW", generated=tmp_path / "bytes.npy")
    assert "state the numbers that become -1 and 1" in line
    np.save(tmp_path / "measured.npy", np.random.default_rng(0).uniform(0, 99, (9, 1, 8, 8)))
    numbers = {"real": tmp_path / "measured.npy", "generated": tmp_path / "bytes.npy"}
    assert "state the numbers that become" in refused("-s", "data.layout=NCHW", **numbers)
    line = refused("-s", "real.layout=NCHW", real=tmp_path / "measured.npy", generated=wide)
    assert "data.image_size=[8,16]" in line
    assert "does not apply here" in refused("-s", "training.steps=3")
    assert "does not apply here" in refused("-s", "data.flip=true")
    assert "-n is for runs" in refused("-n", "50")
    assert "--steps is for runs" in refused("--steps", "5")
    assert "--checkpoint is for runs" in refused("--checkpoint", "best")
    assert "needs --weights FILE" in refused("--features", "inception")
    assert "needs --features inception" in refused("--weights", "w.pth")
    assert "no checkpoint" in refused("--features", "inception", "--weights", "w.pth")
    out = ["--out", str(folder / "noise/report")]
    line = failing(capsys, ["evaluate", "--real", real, "--generated", noise, *out])
    assert "whose files are read as data" in line
    out = ["--out", str(tmp_path / "bytes.npy")]
    line = failing(capsys, ["evaluate", "--real", real, "--generated", noise, *out])
    assert "is a file: name a directory" in line
    assert "--generated is missing" in failing(capsys, ["evaluate", "--real", real])
    both = ["evaluate", str(folder / "run"), "--real", real, "--generated", noise]
    assert "evaluate a run, or data" in failing(capsys, both)
    assert "give a run directory, or real" in failing(capsys, ["evaluate"])
    inside = folder / "run/samples"
    shutil.copytree(folder / "noise", inside)
    line = failing(capsys, ["evaluate", "--real", real, "--generated", str(inside)])
    assert "is for the evaluation of the run" in line


def test_python_refuses_options_of_runs(folder):
    with pytest.raises(ValueError, match="n=50 is for runs"):
        iddpm.evaluate(folder / "real", folder / "noise", n=50)
    with pytest.raises(ValueError, match="give evaluate a run opened by"):
        iddpm.evaluate(folder / "real")
    with pytest.raises(ValueError, match="are for real and generated data"):
        iddpm.evaluate(iddpm.load(folder / "run", device="cpu"), settings=["data.channels=1"])


@pytest.mark.slow
def test_fid_of_the_usual_file(folder, tmp_path):
    torch.manual_seed(0)
    file = tmp_path / "pt_inception-2015-12-05-random.pth"
    torch.save(InceptionV3().state_dict(), file)
    real, made = (write_pictures(squares(7, k)[0], tmp_path / f"{k}") for k in range(2))
    usual = ["--features", "inception", "--weights", str(file)]
    found = evaluated(tmp_path, real, made, *usual)
    assert (found["frechet_name"], found["features"]["size"]) == ("FID", 2048)
    assert found["samples"] == evaluated(tmp_path, real, made, "--features", str(file))["samples"]
    same = evaluated(tmp_path, real, real, *usual)["samples"]["frechet_distance"]["value"]
    assert abs(same) < 1e-3 * found["samples"]["frechet_distance"]["value"]
