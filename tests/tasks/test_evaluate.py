"""Evaluation from the outside: real data, noise, copies, and what cannot be evaluated."""

import json
import shutil

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders import resolve
from iddpm.builders.run_data import open_split
from iddpm.cli.main import run
from iddpm.config import validate
from iddpm.runs.run import Run
from iddpm.tasks.evaluate import evaluate
from iddpm.tasks.samples import read_samples
from tests.conftest import TINY
from tests.evaluation.test_features import save_graph

OPTIONS = [item for setting in TINY for item in ("-s", setting)]
HELD_OUT = ["-s", "data.held_out=0.3"]


def squares(count, seed=0):
    """Pictures [N, 8, 8] of a soft square somewhere in one of three corners, and which."""
    generator = np.random.default_rng(seed)
    x = generator.integers(0, 60, (count, 8, 8))
    y = np.arange(count) % 3
    for item, k in zip(x, y, strict=True):
        top, left = [(0, 0), (0, 4), (4, 0)][k] + generator.integers(0, 2, 2)
        item[top : top + 4, left : left + 4] += generator.integers(80, 190)
    return x.clip(0, 255).astype(np.uint8), y


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    x, y = squares(1500)
    np.savez(folder / "x.npz", arr_0=x, arr_1=y)
    data = str(folder / "x.npz")
    for command, extra in (
        (["train", data, "--out", str(folder / "run"), "--steps", "4"],
         ["-s", "model.class_conditional=true"]),
        (["train-classifier", data, "--out", str(folder / "classifier"), "--steps", "60"],
         ["-s", "training.learning_rate=3e-3", "-s", "training.warmup_steps=5",
          "-s", "training.ema_rates=[0.9]"]),
    ):  # fmt: skip
        assert run([*command, *OPTIONS, *HELD_OUT, *extra]) == 0
    split = open_split(Run(folder / "run").config)
    train, held_out = x[split.train], x[split.held_out]
    generator = np.random.default_rng(5)
    noise = generator.integers(-6, 7, train.shape)
    sets = {
        "real": (held_out, y[split.held_out]),
        "noise": (generator.integers(0, 256, (300, 8, 8)).astype(np.uint8), np.zeros(300, int)),
        "copies": ((train + noise).clip(0, 255).astype(np.uint8)[:300], y[split.train][:300]),
    }
    for name, (samples, labels) in sets.items():
        np.savez(folder / f"{name}.npz", arr_0=samples[..., None], arr_1=labels)
    return folder


@pytest.fixture
def report(folder, tmp_path):
    """Evaluates samples by name through the command line and returns the report."""

    def evaluated(name, features="pca", *more):
        out = tmp_path / f"{name}_{len(list(tmp_path.iterdir()))}"
        status = run(
            ["evaluate", str(folder / "run"), "--features", features, "--out", str(out),
             "--samples", str(folder / f"{name}.npz"), *more]
        )  # fmt: skip
        assert status == 0
        return json.loads((out / "report.json").read_text())

    return evaluated


def features_of(folder, kind):
    return str(folder / "classifier") if kind == "classifier" else kind


@pytest.mark.parametrize("kind", ["pca", "classifier"])
def test_real_is_near_real_and_noise_is_far_away(folder, report, kind):
    real = report("real", features_of(folder, kind))["samples"]
    noise = report("noise", features_of(folder, kind))["samples"]
    assert real["frechet_distance"]["value"] < 0.03 * noise["frechet_distance"]["value"]
    kernel = real["kernel_distance"]
    assert abs(kernel["value"]) < 4 * kernel["error"]
    assert real["precision"] > 0.85
    assert real["recall"] > 0.85
    assert 0.8 < real["density"] < 1.2
    assert real["coverage"] > 0.85
    # By the spread that real samples have: that of noise is as wide as a classifier's features are
    # where it has seen nothing, which is another width after each training.
    assert noise["kernel_distance"]["value"] > abs(kernel["value"]) + 4 * kernel["error"]
    assert noise["precision"] < 0.2
    assert noise["coverage"] < 0.4


def test_as_many_samples_stand_beside_the_held_out_items(folder, report):
    np.savez(folder / "many.npz", arr_0=squares(1200, seed=1)[0][..., None])
    found = report("many")
    fewer, mark = found["as_many_samples"], found["held_out"]
    assert fewer["count"] == mark["count"] < found["samples"]["count"] == 1200
    # The same data in fewer items: the bias of the distance is larger.
    assert fewer["frechet_distance"]["value"] > found["samples"]["frechet_distance"]["value"]
    assert report("real")["as_many_samples"] is None  # they are the held-out items themselves


def test_copies_are_flagged_and_held_out_items_are_not(report):
    assert report("copies")["memorisation"]["flagged"]
    judged = report("real")["memorisation"]
    assert not judged["flagged"]
    assert not report("noise")["memorisation"]["flagged"]


def test_accuracy_under_the_classifier(folder, report):
    kind = features_of(folder, "classifier")
    accuracy = report("real", kind)["accuracy"]
    assert accuracy["overall"]["value"] > 0.95
    assert set(accuracy["per_class"]) == {"0", "1", "2"}
    assert report("real", kind)["frechet_name"] == (
        "Frechet distance (whitened classifier features)"
    )
    assert report("real")["accuracy"] is None  # a PCA sees no classes
    np.savez(folder / "unlabeled.npz", arr_0=squares(60, 1)[0][..., None])
    unlabeled = report("unlabeled", kind)
    assert unlabeled["accuracy"] is None
    assert any("have no classes" in warning for warning in unlabeled["warnings"])


def test_a_classifier_of_other_classes_does_not_judge_accuracy(folder, report, tmp_path):
    x, y = squares(120)
    np.savez(tmp_path / "two.npz", arr_0=x, arr_1=y % 2)
    other = str(tmp_path / "two")
    train = ["train-classifier", str(tmp_path / "two.npz"), "--out", other, "--steps", "1"]
    assert run([*train, *OPTIONS]) == 0
    found = report("real", other)
    assert found["accuracy"] is None
    assert any("has other classes" in warning for warning in found["warnings"])


def test_a_file_of_samples_is_read_however_the_data_is_cut_and_labeled(tmp_path):
    values = {
        "data": {"labels": "first", "window": 8, "stride": 4, "column": "x", "range": (-3, 5)},
        "model": {"channels": 1, "size": [8]},
        "bits": None,
        "form": {"kind": "table", "dtype": "float32"},
    }
    numbers = np.linspace(-3, 5, 16, dtype=np.float32).reshape(2, 8, 1)
    np.savez(tmp_path / "samples.npz", arr_0=numbers, arr_1=np.array([1, 0]))
    found = read_samples(tmp_path / "samples.npz", resolve(validate(values)))
    assert found.x.shape == (2, 1, 8)
    assert (float(found.x.min()), float(found.x.max())) == (-1, 1)
    assert found.y.tolist() == [1, 0]


def test_drawn_samples_are_kept_and_gone_on_with(folder, tmp_path, capsys):
    copy = tmp_path / "run"
    shutil.copytree(folder / "run", copy)
    command = ["evaluate", str(copy), "--steps", "2", "--batch-size", "16", "--features", "pca"]
    assert run([*command, "-n", "32"]) == 0
    text = capsys.readouterr().out
    assert "drawing 32 samples, each 2 evaluations" in text
    for name in ("report.json", "report.md", "neighbours.png"):
        assert (copy / "evaluation" / name).is_file()
        assert f"wrote {copy / 'evaluation' / name}" in text
    assert (copy / "evaluation/report.md").read_text() in text
    parts = sorted(copy.glob("cache/samples_*/*.npz"))
    assert [p.name for p in parts] == ["00000000.npz", "00000016.npz"]

    first = (copy / "evaluation/report.json").read_text()
    parts[1].unlink()  # as if interrupted
    before = parts[0].stat().st_mtime_ns
    assert run([*command, "-n", "32"]) == 0
    assert "drawing 16 samples" in capsys.readouterr().out
    assert parts[0].stat().st_mtime_ns == before
    assert (copy / "evaluation/report.json").read_text() == first
    assert run([*command, "-n", "40"]) == 0
    assert "drawing 8 samples" in capsys.readouterr().out
    assert run([*command, "-n", "20"]) == 0
    assert "drawing" not in capsys.readouterr().out
    assert run([*command, "-n", "20", "--seed", "1"]) == 0
    assert "drawing 20 samples" in capsys.readouterr().out


def test_samples_are_rounded_as_the_data_and_classes_are_as_frequent(folder, tmp_path):
    opened = Run(folder / "run")
    result = evaluate(opened, n=24, sampling={"steps": 2, "batch_size": 9}, out=tmp_path)
    part = np.load(next((folder / "run").glob("cache/samples_*/00000000.npz")))
    assert part["arr_0"].dtype == np.uint8
    assert part["arr_1"].shape == (9,)
    assert result.report["drawn"]["rounded_to_bits"] == 8
    assert result.samples.count == 24
    assert result.nearest.item.shape == (24,)


def test_statistics_are_kept_with_what_defines_them(folder, report, tmp_path, capsys):
    capsys.readouterr()
    kind = features_of(folder, "classifier")
    statistics = folder / "run/cache/reference_classifier.safetensors"
    statistics.unlink(missing_ok=True)
    first = report("real", kind)
    assert f"wrote {statistics}" in capsys.readouterr().out
    assert report("real", kind) == first
    assert f"wrote {statistics}" not in capsys.readouterr().out

    other = tmp_path / "other"
    status = run(["train-classifier", str(folder / "x.npz"), "--out", str(other), "--steps", "2",
                  *OPTIONS, *HELD_OUT])  # fmt: skip
    assert status == 0
    capsys.readouterr()
    report("real", str(other))
    text = capsys.readouterr().out
    assert "was made with another extractor" in text
    assert "measuring the real data again" in text

    foreign = folder / "run/cache/reference_classifier.safetensors"
    line = failing(capsys, ["evaluate", str(folder / "run"), "--features", kind, "--samples",
                            str(folder / "real.npz"), "--reference", str(foreign)])  # fmt: skip
    assert "made with another extractor" in line
    assert report("real", str(other), "--reference", str(foreign))["samples"]["count"] > 0


def test_other_data_can_be_the_reference(folder, report, tmp_path):
    np.savez(tmp_path / "more.npz", arr_0=squares(500, 9)[0])
    found = report("real", "pca", str(tmp_path / "more.npz"))
    assert found["reference"]["count"] == 500
    assert found["samples"]["precision"] > 0.8


def test_few_samples_are_warned_of(report):
    warnings = report("noise")["warnings"]
    assert any("300 items are few for 64 features" in warning for warning in warnings)


def test_signals_and_volumes_have_reports(tmp_path):
    for shape, layout in (((80, 2, 16), "NCL"), ((80, 1, 2, 8, 8), "NCDHW")):
        path = tmp_path / f"{layout}.npy"
        np.save(path, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
        out = tmp_path / layout
        train = ["train", str(path), "--out", str(out), "--steps", "1", "-s"]
        assert run([*train, f"data.layout={layout}", *OPTIONS]) == 0
        assert run(["evaluate", str(out), "-n", "12", "--steps", "1"]) == 0
        assert (out / "evaluation/neighbours.png").is_file()


def test_continuous_data_is_not_rounded(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).uniform(-1, 1, (80, 1, 16)).astype("f4"))
    out = tmp_path / "run"
    train = ["train", str(tmp_path / "x.npy"), "--out", str(out), "--steps", "1", *OPTIONS]
    assert run([*train, "-s", "data.layout=NCL"]) == 0
    assert run(["evaluate", str(out), "-n", "8", "--steps", "1"]) == 0
    part = np.load(next(out.glob("cache/samples_*/*.npz")))["arr_0"]
    assert part.dtype == np.float32
    assert "floats, like the data" in (out / "evaluation/report.md").read_text()


def failing(capsys, arguments):
    status = run(arguments)
    line = capsys.readouterr().err.strip()
    assert status == 2, line
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def test_what_cannot_be_evaluated_is_refused(folder, tmp_path, capsys):
    def refused(*more):
        return failing(
            capsys, ["evaluate", str(folder / "run"), "--out", str(tmp_path / "out"), *more]
        )

    capsys.readouterr()
    assert "give pca, the directory of a classifier" in refused("--features", "nothing")
    assert "not a classifier" in refused("--features", str(folder / "run"))
    torch.save({}, tmp_path / "net.pt")
    assert "torch.onnx.export" in refused("--features", str(tmp_path / "net.pt"))
    graph = save_graph(tmp_path / "net.onnx", (1, 16, 16))
    assert "takes items 1 x 16 x 16 and was given 1 x 8 x 8" in refused("--features", str(graph))
    np.savez(tmp_path / "large.npz", arr_0=np.zeros((9, 16, 16, 1), np.uint8))
    assert "trained on (1, 8, 8)" in refused("--samples", str(tmp_path / "large.npz"))
    assert "none.npz" in refused("--samples", str(tmp_path / "none.npz"))
    assert "0 samples" in refused("-n", "0")
    assert "need at least 6" in refused("-n", "3", "--steps", "1")
    assert "class '7' is not one of the 3" in refused("--class", "7")
    assert "no statistics file" in refused("--reference", str(tmp_path / "none.safetensors"))
    line = failing(capsys, ["evaluate", str(folder / "classifier")])
    assert "holds a classifier, not a generative model" in line
    assert not (tmp_path / "out").exists()


def test_a_classifier_for_another_shape_is_refused(folder, tmp_path, capsys):
    x, y = squares(60)
    np.savez(tmp_path / "wide.npz", arr_0=np.pad(x, ((0, 0), (0, 0), (0, 8))), arr_1=y)
    other = tmp_path / "other"
    status = run(["train-classifier", str(tmp_path / "wide.npz"), "--out", str(other),
                  "--steps", "1", *OPTIONS])  # fmt: skip
    assert status == 0
    capsys.readouterr()
    line = failing(capsys, ["evaluate", str(folder / "run"), "--features", str(other)])
    assert "takes items of shape (1, 8, 16)" in line
    assert iddpm.Run(folder / "run").shape == (1, 8, 8)


def test_a_guide_that_is_also_the_judge_is_said(folder, tmp_path):
    judge = str(folder / "classifier")
    guided = {"steps": 2, "classifier": judge, "classifier_scale": 3.0}
    opened = Run(folder / "run")
    result = evaluate(opened, n=12, features=judge, sampling=guided, out=tmp_path)
    assert any("biased in their favor" in warning for warning in result.report["warnings"])
    plain = evaluate(opened, n=12, features=judge, sampling={"steps": 2}, out=tmp_path)
    assert not any("biased in their favor" in warning for warning in plain.report["warnings"])
    assert plain.samples != result.samples  # the cache does not take one for the other


@pytest.mark.parametrize("name", ["s.npy", "images.npz", "labels.npz"])
def test_samples_are_read_under_any_name(folder, name, tmp_path):
    """A plain array, and archives with arrays of other names than ``sample --npz`` gives."""
    with np.load(folder / "real.npz") as arrays:
        x, y = arrays["arr_0"][:20], arrays["arr_1"][:20]
    path = tmp_path / name
    if name == "s.npy":
        np.save(path, x)
    else:
        np.savez(path, **({"images": x} if name == "images.npz" else {"images": x, "labels": y}))
    np.savez(tmp_path / "usual.npz", arr_0=x, arr_1=y)
    config = Run(folder / "run").config
    usual, found = (read_samples(p, config) for p in (tmp_path / "usual.npz", path))
    assert torch.equal(found.x, usual.x)
    assert (found.y is not None) == (name == "labels.npz")
    assert found.y is None or torch.equal(found.y, usual.y)


@pytest.mark.parametrize("n", [-1, 0, 1, 2, 4, 5])
def test_too_few_samples_are_refused_before_any_is_drawn(folder, n, tmp_path, capsys):
    out = tmp_path / "report"
    assert run(["evaluate", str(folder / "run"), "-n", str(n), "--out", str(out)]) == 2
    assert f"-n {n}" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(("n", "warned"), [(6, True), (80, True), (120, False)])
def test_few_samples_are_measured_with_a_warning(folder, n, warned, tmp_path):
    with np.load(folder / "noise.npz") as arrays:
        np.save(tmp_path / "s.npy", arrays["arr_0"][:n])
    found = evaluate(
        Run(folder / "run"), samples=tmp_path / "s.npy", out=tmp_path / "report"
    ).report["warnings"]
    assert any("precision, recall, density and coverage" in each for each in found) == warned
