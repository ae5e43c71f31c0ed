"""The names that CONTRIBUTING.md lists as stable exist, and the citation names the paper."""

import importlib
import re
import subprocess

import pytest
import torch
import yaml

import iddpm
from release.distributions import ROOT

STABLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Stable names")[2]


def test_names_of_published_checkpoints():
    (names,) = re.findall(r"`iddpm\.interop\.openai\.\{(.*?)\}`", STABLE)
    module = importlib.import_module("iddpm.interop.openai")
    assert len(names.split(", ")) == 3
    assert all(callable(getattr(module, name)) for name in names.split(", "))


def test_names_of_the_process():
    schedule = iddpm.cosine(10)
    denoiser = iddpm.Denoiser(lambda x, t: x, iddpm.GaussianDiffusion(schedule), predicts="v")
    assert denoiser.predicts == "v"
    assert schedule.alpha_bar.shape == (10,)
    made = iddpm.Prediction(x0=torch.zeros(1), eps=torch.ones(1))
    assert (made.x0.item(), made.eps.item()) == (0, 1)
    assert importlib.import_module("iddpm.diffusion.schedule").Level is iddpm.Level


@pytest.mark.parametrize("target", ["setup", "test", "demo", "kill-test", "lint"])
def test_targets(target):
    assert f"`{target}`" in STABLE or f"`make {target}`" in STABLE
    command = ["make", "--dry-run", "--assume-new=pyproject.toml", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Nichol", "Dhariwal"]
    assert "version" not in citation  # it stands in one place
