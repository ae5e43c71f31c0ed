"""Timesteps fitted to a run: measured once, kept with its cache, and for its own weights alone."""

import shutil

import numpy as np
import pytest
import torch

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.runs import fitted_steps as module
from iddpm.runs.fitted_steps import fitted_steps
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fitted")
    np.savez(folder / "x.npz", arr_0=images(), arr_1=np.arange(60) % 3)
    settings = [
        *TINY,
        "training.steps=4",
        "training.save_every=2",
        "model.class_conditional=true",
    ]
    iddpm.train(folder / "x.npz", out=folder / "run", settings=settings, reporter=SilentReporter())
    return folder / "run"


@pytest.fixture
def run(directory, tmp_path):
    return iddpm.load(shutil.copytree(directory, tmp_path / "run"))


def files(run):
    return sorted((run.directory / "cache").glob("fitted_*"))


@pytest.mark.parametrize("sampler", ["ddpm", "heun", "ipndm", "dpmpp_2m_sde", "er_sde"])
def test_every_sampler_takes_them(run, sampler):
    plan = run.plan(sampler=sampler, spacing="fitted", steps=7)
    assert len(plan.schedule) == (4 if sampler == "heun" else 7)
    assert str(plan) == f"7 evaluations: {sampler}, fitted"
    x = run.sample(2, sampler=sampler, spacing="fitted", steps=7)
    assert x.isfinite().all()


def test_they_are_measured_once_and_again_when_damaged_or_for_other_weights(run, monkeypatch):
    calls = []
    fit = module._fit
    monkeypatch.setattr(module, "_fit", lambda *a: calls.append(1) or fit(*a))
    first = fitted_steps(run)
    again = fitted_steps(iddpm.load(run.directory))
    assert (len(calls), len(files(run))) == (1, 1)
    assert torch.equal(first.errors, again.errors)

    (path,) = files(run)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1  # a value
    path.write_bytes(data)
    assert torch.equal(fitted_steps(run).errors, first.errors)
    assert len(calls) == 2

    earlier = iddpm.load(run.directory, checkpoint=2)
    assert not torch.equal(fitted_steps(earlier).errors, first.errors)
    assert (len(calls), len(files(run))) == (3, 2)


def test_what_they_cannot_serve_is_one_sentence(run, capsys):
    out = str(run.directory)
    for arguments, message in [
        (["sample", out, "-n", "2", "--spacing", "fitted", "--steps", "50"], "use fewer steps"),
        (
            ["edit", out, "0", "--spacing", "fitted"],
            "spacing=fitted chooses timesteps of the whole",
        ),
        (["sample", out, "-n", "2", "--spacing", "fit"], "ddim, fitted, optimal"),
    ]:
        assert command_line(arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
