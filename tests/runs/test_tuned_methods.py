"""What ``iddpm tune`` chose, read back for ``--sampler auto``."""

import json
import shutil

import numpy as np
import pytest

import iddpm
from iddpm.cli.main import run as command_line
from iddpm.runs.step_tables import weights_digest
from iddpm.runs.tuned_methods import FORMAT, save_tuned
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    np.savez(folder / "x.npz", arr_0=images())
    settings = [*TINY, "training.steps=4", "training.save_every=2"]
    iddpm.train(folder / "x.npz", out=folder / "run", settings=settings, reporter=SilentReporter())
    run = iddpm.load(folder / "run")
    save_tuned(
        run.directory,
        {
            "format": FORMAT,
            "weights": weights_digest(run.denoiser),
            "won": {"10": ["unipc_2", "log_snr"], "5": ["ipndm", "fitted"]},
        },
    )
    return folder / "run"


@pytest.fixture
def copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "run")


USUAL = "dpmpp_2m_sde, karras"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"steps": 10}, "unipc_2, log_snr, chosen by iddpm tune"),
        ({"steps": 5}, "ipndm, fitted, chosen by iddpm tune"),
        ({"steps": 13}, "unipc_2, log_snr, chosen by iddpm tune"),
        ({"steps": 16}, USUAL),
        ({"steps": 2}, "ipndm, karras"),
        ({"steps": 10, "spacing": "even"}, "dpmpp_2m_sde, even"),
        ({"steps": 10, "sampler": "heun"}, "heun, log_snr"),
        ({"steps": 10, "eta": 0.5}, "ddim, even"),
    ],
)
def test_the_automatic_choice_uses_it_for_about_as_many_evaluations(directory, settings, wanted):
    plan = iddpm.load(directory).plan(**settings)
    assert str(plan) == f"{settings['steps']} evaluations: {wanted}"


def test_another_checkpoint_has_the_usual_choice(directory):
    plan = iddpm.load(directory, checkpoint=2).plan(steps=10)
    assert str(plan) == f"10 evaluations: {USUAL}"


def test_samples_are_those_of_the_chosen_method(directory, capsys):
    run = iddpm.load(directory)
    by_name = run.sample(2, steps=10, sampler="unipc_2", spacing="log_snr")
    assert (run.sample(2, steps=10) == by_name).all()
    assert command_line(["sample", str(directory), "-n", "2", "--steps", "10"]) == 0
    line = "2 samples, each 10 evaluations: unipc_2, log_snr, chosen by iddpm tune\n"
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[:40], "is damaged: make it again with iddpm tune"),
        (lambda text: text.replace("unipc_2", "unipc_3"), "its checksum does not match"),
        (lambda text: "[]", "is damaged"),
    ],
)
def test_a_damaged_file_is_one_sentence(copy, change, message, capsys):
    path = copy / "tuned.json"
    path.write_text(change(path.read_text()))
    assert command_line(["sample", str(copy), "-n", "2", "--steps", "10"]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_sampler_of_a_later_version(copy):
    facts = json.loads((copy / "tuned.json").read_text())
    del facts["checksum"]
    save_tuned(copy, {**facts, "won": {"10": ["later", "karras"]}})
    with pytest.raises(ValueError, match="names later, karras, which is unknown"):
        iddpm.load(copy).plan(steps=10)
