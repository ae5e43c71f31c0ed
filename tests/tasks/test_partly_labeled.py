"""Data in which some items have no class (-1): what is trained on, drawn, measured and refused."""

import io

import numpy as np
import pytest
import torch
from rich.console import Console

import iddpm
from iddpm.cli.main import run as command
from iddpm.data.sources.arrays import ArraySource
from iddpm.sampling import classifier_gradient
from iddpm.tasks.draw import DrawRequest, Written, draw
from iddpm.tasks.evaluate import evaluate
from iddpm.tasks.samples import draw_samples
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images

LABELS = np.where(np.arange(60) % 3 == 2, -1, np.arange(60) % 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partly")
    np.savez(folder / "x.npz", images=images(), labels=LABELS)
    return folder


def train(folder, name, *settings):
    return iddpm.train(
        folder / "x.npz", out=folder / name, reporter=SilentReporter(),
        settings=[*TINY, "model.class_conditional=true", "training.steps=2", *settings],
    )  # fmt: skip


def test_networks_see_no_class_where_there_is_none(folder, monkeypatch):
    seen = []
    forward = iddpm.UNet.forward

    def spied(self, x, timesteps, **conditioning):
        if x.device.type != "meta":  # the look at its memory
            seen.extend(conditioning["y"].tolist())
        return forward(self, x, timesteps, **conditioning)

    monkeypatch.setattr(iddpm.UNet, "forward", spied)
    run = train(folder, "run", "training.label_dropout=0", "training.batch_size=30")
    assert set(seen) == {-1, 0, 1}
    assert 0.2 < seen.count(-1) / len(seen) < 0.5  # a third
    assert run.config.class_names == ("0", "1")


def test_the_count_is_said(folder, capsys, tmp_path):
    assert (
        command(["data", "inspect", str(folder / "x.npz"), "--out", str(tmp_path / "x.png")]) == 0
    )
    assert "2 classes: 0 (20), 1 (20); 20 items without a class (-1)" in capsys.readouterr().out
    settings = [part for setting in TINY for part in ("-s", setting)]
    status = command(
        ["train", str(folder / "x.npz"), *settings, "-s", "model.class_conditional=true",
         "--steps", "1", "--out", str(tmp_path / "run")]
    )  # fmt: skip
    assert status == 0
    assert "2 classes, 20 items without a class (-1)" in capsys.readouterr().out


def test_they_are_evaluated_by_the_classes_of_the_others(folder):
    run = train(folder, "measured")
    found = evaluate(run, n=12, sampling={"steps": 1}, console=Console(file=io.StringIO()))
    assert found.report["drawn"]["classes"] == "as in the training data"
    drawn = draw_samples(
        run, 12, {"steps": 1}, run.open_split(), 0, None, Console(file=io.StringIO())
    )
    assert set(drawn.y.tolist()) == {0, 1}


def test_pairs_without_a_class_are_drawn_without_one(folder, tmp_path):
    run = train(
        folder, "upscaler", "task=super_resolution", "scale=2", "data.held_out=0.2",
        "training.label_dropout=0.1",
    )  # fmt: skip
    split = run.open_split()
    n = len(split.held_out)
    draw(
        run,
        DrawRequest(n),
        run.plan(steps=1),
        Written(out=tmp_path),
        console=Console(file=io.StringIO()),
    )
    rows = (tmp_path / "labels.csv").read_text().splitlines()[1:]
    labels = [row.split(",")[1] for row in rows]
    assert sorted(labels) == sorted(str(k) for k in split.source.labels[split.held_out])
    assert "-1" in labels


def test_a_classifier_does_not_guide_items_without_a_class():
    def logits(x, shown):
        return torch.stack([x.flatten(1).sum(1), -x.flatten(1).sum(1)], dim=1)

    level = iddpm.linear(100).at(torch.tensor([3, 3]))
    slope = classifier_gradient(logits)(torch.ones(2, 1, 4), level, torch.tensor([-1, 1]))
    assert slope[0].abs().max() == 0
    assert slope[1].abs().min() > 0


def test_what_cannot_do_without_a_class_is_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"class of every item, and 20 of the 60 items of x\.npz"):
        train(folder, "classifier", "task=classification", "model.class_conditional=false")
    x = images()[:6]
    for labels in ([-1, 1, 1, -1, 1, 1], [-2, 0, 1, 1, 0, 0], [-1] * 6):
        with pytest.raises(ValueError, match="0"):
            ArraySource(x, name="a", layout="NHWC", labels=np.array(labels))
    named = ArraySource(
        x, name="a", layout="NHWC", labels=np.array([-1, 1] * 3), class_names=("cat", "dog")
    )
    assert (named.unlabeled, named.class_names) == (3, ("cat", "dog"))
