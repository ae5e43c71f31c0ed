"""A classifier from the outside: trained, opened again and measured."""

import shutil

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run
from iddpm.runs.classifier import held_out_accuracy, load_classifier
from iddpm.tasks.train import train_until_stop
from iddpm.tasks.training_setup import TrainRequest
from iddpm.training.checkpoints.checkpoint import load_checkpoint
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY

OPTIONS = [item for setting in TINY for item in ("-s", setting)]


def squares(count=300):
    """Noisy 8x8 pictures with a bright square in one of three corners, and which."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 60, (count, 8, 8), dtype=np.uint8)
    y = np.arange(count) % 3
    for k, (top, left) in enumerate([(0, 0), (0, 4), (4, 0)]):
        x[y == k, top : top + 4, left : left + 4] += 190
    return x, y


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    x, y = squares()
    np.savez(folder / "x.npz", arr_0=x, arr_1=y, class_names=np.array(["a", "b", "c"]))
    status = run(
        ["train-classifier", str(folder / "x.npz"), "--out", str(folder / "classifier"), *OPTIONS,
         "--steps", "60", "-s", "data.held_out=0.2", "-s", "training.warmup_steps=5",
         "-s", "training.learning_rate=3e-3", "-s", "training.ema_rates=[0.9]",
         "-s", "training.save_every=30", "-s", "training.validate_every=30"]
    )  # fmt: skip
    assert status == 0
    return folder


def test_it_learns_and_says_how_well(folder):
    classifier = load_classifier(folder / "classifier")
    accuracy = held_out_accuracy(classifier)
    assert list(accuracy) == [0, 12, 25, 37]
    assert accuracy[0] > 0.95
    assert accuracy[0] >= accuracy[37] - 0.05
    assert (folder / "classifier/accuracy.json").is_file()
    records = iddpm.Run(folder / "classifier").log
    assert "held_out_loss" in records[-1]
    assert records[-1]["held_out_loss"] < np.log(3)


def test_what_guidance_and_features_need(folder):
    classifier = load_classifier(folder / "classifier", device="cpu")
    assert classifier.class_names == ("a", "b", "c")
    assert len(classifier.schedule) == 50
    assert classifier.shape == (1, 8, 8)
    x = torch.randn(5, 1, 8, 8, requires_grad=True)
    logits = classifier.network(x, torch.full((5,), 300.0))
    assert logits.shape == (5, 3)
    logits.sum().backward()
    assert x.grad.any()
    assert not any(p.requires_grad for p in classifier.network.parameters())
    assert not classifier.network.training
    features = classifier.features(x.detach())
    assert features.shape == (5, 16)
    # The last layer on the features gives the logits.
    projected = classifier.network.out[-1].c_proj(features)
    torch.testing.assert_close(projected, classifier.logits(x.detach()))
    with pytest.raises(ValueError, match=r"items of shape \(1, 8, 8\) and was given \(1, 9, 8\)"):
        classifier.features(torch.zeros(2, 1, 9, 8))


def test_the_hash_is_of_the_weights(folder, tmp_path):
    first = load_classifier(folder / "classifier").hash
    assert len(first) == 64
    for name in ("config.yaml", "model.safetensors"):
        shutil.copy(folder / "classifier" / name, tmp_path / name)
    assert load_classifier(tmp_path).hash == first
    other = load_checkpoint(folder / "classifier", 30).tensors["ema_0.9"]
    from iddpm.training.checkpoints.weights import hash_weights

    assert hash_weights(other) != first


def test_resume_equals_going_through(folder, tmp_path):
    options = [*TINY, "task=classification", "training.steps=20", "training.save_every=10"]
    for name in ("whole", "parts"):
        train_until_stop(
            TrainRequest(
                folder / "x.npz", settings=options, out=tmp_path / name, reporter=SilentReporter()
            )
        )
    shutil.rmtree(tmp_path / "parts/checkpoints/step_00000020")
    assert run(["train-classifier", "--resume", "--out", str(tmp_path / "parts")]) == 0
    a, b = (load_checkpoint(tmp_path / name, 20).tensors for name in ("whole", "parts"))
    for group in a:
        for name in a[group]:
            assert torch.equal(a[group][name], b[group][name]), name


def test_training_can_start_from_a_classifier(folder, tmp_path):
    started, _ = train_until_stop(
        TrainRequest(
            folder / "x.npz",
            settings=[
                *TINY,
                "task=classification",
                "training.steps=1",
                "training.learning_rate=1e-12",
            ],
            out=tmp_path / "run",
            init_from=folder / "classifier",
            reporter=SilentReporter(),
        )
    )
    x = torch.randn(2, 1, 8, 8)
    a = load_classifier(folder / "classifier").logits(x)
    torch.testing.assert_close(a, load_classifier(started.directory).logits(x))


def failing(capsys, arguments):
    status = run(arguments)
    line = capsys.readouterr().err.strip()
    assert status == 2, line
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


def test_a_model_of_the_other_kind_is_refused(folder, tmp_path, capsys):
    line = failing(capsys, ["sample", str(folder / "classifier")])
    assert "holds a classifier, not a generative model" in line
    generator = tmp_path / "generator"
    status = run(
        ["train", str(folder / "x.npz"), "--out", str(generator), "--steps", "1", *OPTIONS]
    )
    assert status == 0
    capsys.readouterr()
    with pytest.raises(ValueError, match="not a classifier"):
        load_classifier(generator)
    line = failing(capsys, ["train-classifier", "--resume", "--out", str(generator)])
    assert "another task" in line


def test_data_that_a_classifier_cannot_learn(folder, tmp_path, capsys):
    out = tmp_path / "out"
    command = ["train-classifier", str(folder / "x.npz"), "--out", str(out), *OPTIONS]
    assert "needs labels" in failing(capsys, [*command, "-s", "data.labels=none"])
    line = failing(capsys, [*command, "-s", "model.class_conditional=true"])
    assert "predicts the class" in line
    np.savez(tmp_path / "one.npz", arr_0=squares(20)[0], arr_1=np.zeros(20, np.int64))
    line = failing(capsys, ["train-classifier", str(tmp_path / "one.npz"), "--out", str(out)])
    assert "at least two classes" in line
    assert not out.exists()


@pytest.mark.parametrize(("shape", "layout"), [((40, 2, 16), "NCL"), ((40, 1, 3, 8, 8), "NCDHW")])
def test_signals_and_volumes(tmp_path, shape, layout):
    generator = np.random.default_rng(0)
    path = tmp_path / "x.npz"
    x = generator.integers(0, 256, shape, dtype=np.uint8)
    np.savez(path, arr_0=x, arr_1=np.arange(len(x)) % 2)
    arguments = ["train-classifier", str(path), "--out", str(tmp_path / "run"), *OPTIONS]
    assert run([*arguments, "--steps", "2", "-s", f"data.layout={layout}"]) == 0
    features = load_classifier(tmp_path / "run").features(torch.zeros(3, *shape[1:]))
    assert features.shape == (3, 16)
