"""Run directories that version 0.1.0 wrote open, resume and sample as they did."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.checkpoints.checkpoint import load_checkpoint

HERE = Path(__file__).parent / "version_0_1"
CLOSE = {"rtol": 1e-3, "atol": 2e-4}
"""Float32 in five steps: processors differ in last bits, faults in the first digits."""


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Return a copy of them beside their data, and work there: their paths are relative."""
    folder = tmp_path / "old"
    shutil.copytree(HERE, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="module")
def expected():
    with np.load(HERE / "expected.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize(
    ("name", "opened", "settings"),
    [
        ("samples", {}, {}),
        ("ema_length", {"ema_length": 0.07}, {}),
        ("live", {"ema": "none"}, {}),
        ("guided", {}, {"classifier": "classifier", "classifier_scale": 3.0}),
    ],
)
def test_samples_are_the_same(old, expected, name, opened, settings):
    x = iddpm.load("run", **opened).sample(4, steps=5, seed=0, classes=1, **settings)
    torch.testing.assert_close(x, expected[name], **CLOSE)


def test_upscaled_data_is_the_same(old, expected):
    x = iddpm.load("upscaler").upscale(expected["low_res"], seed=0, steps=5)
    torch.testing.assert_close(x, expected["upscaled"], **CLOSE)


def test_released_weights_alone_are_the_same(old, expected):
    for name in ("config.yaml", "model.safetensors"):
        (old / "alone").mkdir(exist_ok=True)
        shutil.copy(old / "run" / name, old / "alone" / name)
    x = iddpm.load("alone").sample(4, steps=5, seed=0, classes=1)
    torch.testing.assert_close(x, expected["samples"], **CLOSE)


def test_training_goes_on_as_it_did(old, expected):
    assert command(["train", "--resume", "--out", "run", "--steps", "9"]) == 0
    lines = (old / "run/log.jsonl").read_text().splitlines()
    losses = torch.tensor([json.loads(line)["loss"] for line in lines], dtype=torch.float64)
    torch.testing.assert_close(losses, expected["losses"].double(), rtol=1e-4, atol=1e-5)
    weights = load_checkpoint(old / "run", 9).tensors["network"]
    joined = torch.cat([weights[name].flatten() for name in sorted(weights)])
    # Three steps of Adam move a weight by 3e-4 at most, mostly in the direction of a sign.
    torch.testing.assert_close(joined, expected["weights"], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["run", "upscaler", "classifier"])
def test_info_reads_them(old, name, capsys):
    assert command(["info", name]) == 0
    assert "finished" in capsys.readouterr().out
