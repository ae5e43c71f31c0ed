"""A run's settings are held against those that its weights were trained with."""

import json
import shutil

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.checkpoints.checkpoint import list_checkpoints
from iddpm.training.checkpoints.checkpoint_files import read_facts, read_sealed
from iddpm.training.monitoring.terminal import SilentReporter


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from tests.conftest import TINY, images

    folder = tmp_path_factory.mktemp("sealed")
    np.savez(folder / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    iddpm.train(
        folder / "x.npz",
        out=folder / "run",
        settings=[
            *TINY,
            "training.steps=4",
            "training.save_every=2",
            "training.posthoc_ema.every=1",
            "model.class_conditional=true",
        ],
        reporter=SilentReporter(),
    )
    return folder / "run"


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def edit(run, old, new):
    """Change settings by hand; the text that is replaced must be there once."""
    text = (run / "config.yaml").read_text()
    assert text.count(old) == 1, (old, text.count(old))
    (run / "config.yaml").write_text(text.replace(old, new))


def commands(run):
    return (
        ["train", "--resume", "--out", str(run), "--steps", "5"],
        ["sample", str(run), "-n", "1", "--steps", "2", "--class", "0", "--out", f"{run}-drawn"],
        ["info", str(run)],
        ["likelihood", str(run)],
    )


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("  predicts: eps", "  predicts: x0", "diffusion.predicts=x0"),
        ("  num_steps: 50", "  num_steps: 500", "diffusion.num_steps=500"),
        ("  num_steps: 50", "  num_steps: 51", "diffusion.num_steps=51"),
        ("  held_out: 0.05", "  held_out: 0.3", "data.held_out=0.3"),
        ("  seed: 0", "  seed: 5", "training.seed=5"),
        ("  dropout: 0.0", "  dropout: 0.1", "model.dropout=0.1"),
        ("  learning_rate: 0.001", "  learning_rate: 0.002", "training.learning_rate=0.002"),
        ("    vb_weight: 0.001", "    vb_weight: 0.002", "diffusion.loss.vb_weight=0.002"),
        ("  flip: false", "  flip: true", "data.flip=true"),
        ("bits: 8", "bits: 9", "bits=9"),
        ("    every: 1", "    every: 2", "training.posthoc_ema.every=2"),
    ],
)
def test_settings_changed_by_hand_are_refused(copy, capsys, old, new, name):
    edit(copy, f"{old}\n", f"{new}\n")
    for arguments in commands(copy):
        assert command(arguments) == 2, arguments
        said = capsys.readouterr().err
        key, _, before = name.partition("=")[0], "", old.split(": ")[1]
        assert said.startswith("error: "), said
        assert name in said
        assert f"{key}={before}" in said
        assert ("--resume" in said) == key.startswith("training.")
    assert not (copy.parent / "run-drawn").exists()
    edit(copy, f"{new}\n", f"{old}\n")
    assert command(commands(copy)[1]) == 0


def test_the_released_pair_alone_is_held_against_each_other(trained, tmp_path, capsys):
    for name in ("config.yaml", "model.safetensors"):
        shutil.copy(trained / name, tmp_path)
    x = iddpm.load(tmp_path).sample(2, steps=2, seed=0, classes=0)
    assert torch.equal(x, iddpm.load(trained).sample(2, steps=2, seed=0, classes=0))
    edit(tmp_path, "  predicts: eps\n", "  predicts: v\n")
    with pytest.raises(ValueError, match=r"predicts=v.*trained with diffusion\.predicts=eps"):
        iddpm.load(tmp_path)


def test_settings_of_sampling_and_of_speed_may_be_edited(copy, capsys):
    edit(copy, "  log_every: 5\n", "  log_every: 1\n")
    assert command(commands(copy)[1]) == 0
    assert "log_every" not in capsys.readouterr().err
    edit(copy, "  guidance: 1.0\n", "  guidance: 3.0\n")
    assert command(commands(copy)[2]) == 0
    said = capsys.readouterr().err
    assert "sampling.guidance=3.0" in said
    assert "1.0" in said


def test_a_change_on_purpose_holds_before_the_next_checkpoint_has_it(copy, capsys, monkeypatch):
    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("iddpm.tasks.train.train_loop", killed)
        resume = ["train", "--resume", "--out", str(copy), "--steps", "6"]
        assert command([*resume, "-s", "training.learning_rate=0.01"]) == 130
    said = capsys.readouterr().out
    assert "training.learning_rate from 0.001 to 0.01" in said
    assert iddpm.load(copy).config.training.learning_rate == 0.01
    assert command(["train", "--resume", "--out", str(copy)]) == 0
    settings = read_sealed(list_checkpoints(copy)[-1])["settings"]
    assert settings["training.learning_rate"] == 0.01
    assert settings["training.steps"] == 6


def test_every_file_of_weights_is_refused_with_a_bit_turned(copy):
    for path in sorted((copy / "averages").glob("*.safetensors")):
        whole = path.read_bytes()
        for place in (len(whole) // 2 & ~3, len(whole) - 2):
            damaged = bytearray(whole)
            damaged[place] ^= 8
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=path.name):
                iddpm.load(copy, ema_length=0.07)
        path.write_bytes(whole)
    iddpm.load(copy, ema_length=0.07)
    shutil.rmtree(copy / "checkpoints")
    path = copy / "model.safetensors"
    whole = path.read_bytes()
    text = whole.index(b"diffusion.num_steps")
    for place in (text + 3, text + 23, len(whole) // 2 & ~3, len(whole) - 2):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"model\.safetensors"):
            iddpm.load(copy)


def test_a_run_of_version_0_1_gains_the_seal(tmp_path, monkeypatch, capsys):
    from tests.runs.test_old_runs import HERE

    shutil.copytree(HERE, tmp_path / "old")
    monkeypatch.chdir(tmp_path / "old")
    assert read_facts(tmp_path / "old/run/model.safetensors") == ({}, None)
    assert command(["train", "--resume", "--out", "run", "--steps", "7"]) == 0
    assert read_sealed(list_checkpoints(tmp_path / "old/run")[-1])["settings"]["training.seed"] == 0
    edit(tmp_path / "old/run", "  predicts: eps\n", "  predicts: v\n")
    assert command(["info", "run"]) == 2
    assert "diffusion.predicts=eps" in capsys.readouterr().err


def test_the_fingerprint_of_the_data_is_in_the_checkpoint_too(copy, capsys):
    (copy / "data.json").unlink()
    sealed = read_sealed(list_checkpoints(copy)[-1])["data"]
    assert sealed["items"] == 60
    np.savez(
        copy.parent / "less.npz", arr_0=np.zeros((50, 8, 8), np.uint8), arr_1=np.arange(50) % 3
    )
    resume = [
        "train",
        str(copy.parent / "less.npz"),
        "--resume",
        "--out",
        str(copy),
        "--steps",
        "5",
    ]
    assert command(resume) == 2
    assert "50 items instead of 60" in capsys.readouterr().err
    for damage in ("", "{}", "null", "[1", '{"items": 61}'):
        (copy / "data.json").write_text(damage)
        assert command(["info", str(copy)]) == 0
    assert command(["train", "--resume", "--out", str(copy), "--steps", "5"]) == 0
    assert json.loads((copy / "data.json").read_text()) == sealed
