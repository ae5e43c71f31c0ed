"""The training items nearest to one sample."""

import json

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.tasks.nearest import nearest
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nearest")
    np.save(folder / "x.npy", images(200))
    settings = [*TINY, "training.steps=1", "data.held_out=0.4"]
    return iddpm.train(
        folder / "x.npy", out=folder / "run", settings=settings, reporter=SilentReporter()
    )


def save(path, picture):
    Image.fromarray(picture).save(path)
    return path


def test_a_copy_of_a_training_item_is_found_and_called_so(run, tmp_path, capsys):
    stored, split = images(200)[..., 0].astype(int), run.open_split()
    item = int(split.train[7])
    changed = np.clip(stored[item] + np.random.default_rng(0).integers(-2, 3, (8, 8)), 0, 255)
    file = save(tmp_path / "sample.png", changed.astype(np.uint8))
    assert command(["nearest", str(run.directory), str(file), "-n", "3"]) == 0
    assert "a copy: nearer to one" in capsys.readouterr().out
    found = json.loads((run.directory / "nearest/nearest.json").read_text())
    assert (found["verdict"], found["number"]) == ("copy", None)
    away = np.sqrt(((stored[split.train] - changed) ** 2).mean(axis=(1, 2))) / 127.5
    order = away.argsort()[:3]
    assert [each["item"] for each in found["neighbors"]] == split.train[order].tolist()
    distances = [each["distance"] for each in found["neighbors"]]
    np.testing.assert_allclose(distances, away[order], rtol=1e-3)
    assert found["neighbors"][0]["key"] == split.source.key(item)
    assert Image.open(run.directory / "nearest/nearest.png").width > 4 * 8


def test_what_is_like_no_training_item_is_new(run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    file = save(tmp_path / "noise.png", noise)
    found = nearest(run, file, out=tmp_path)
    assert found.verdict == "new"
    assert len(found.neighbors) == 5
    assert "held-out items:" in str(found)


def test_what_cannot_be_searched_is_refused(run, tmp_path):
    np.savez(tmp_path / "samples.npz", arr_0=images(2))
    with pytest.raises(ValueError, match="n=0"):
        nearest(run, tmp_path / "samples.npz", n=0)
    with pytest.raises(ValueError, match=r"sample 2 was requested, and .*npz has 2"):
        nearest(run, tmp_path / "samples.npz", number=2)
    np.savez(tmp_path / "samples.npz", arr_0=images(2, 12))
    with pytest.raises(ValueError, match=r"has shape \(1, 12, 12\), and the training items"):
        nearest(run, tmp_path / "samples.npz", number=1)
    assert not list(tmp_path.glob("nearest*"))
