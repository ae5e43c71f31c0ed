"""``iddpm doctor`` says what is installed, and warns of what will fail or be slow."""

import errno
import subprocess
import sys
from collections import namedtuple
from email.message import Message
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import iddpm
from iddpm.builders import measured_precision
from iddpm.cli.main import run
from iddpm.runtime.processor import usable_cores
from iddpm.tasks import doctor, installed_packages
from iddpm.tasks.doctor import nvidia_devices


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """An installation in order, whatever this one is."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(doctor, "nvidia_devices", list)
    versions = {"iddpm": iddpm.__version__, "numpy": "2.1", "fastapi": "0.120", "wandb": "0.10"}
    required = ["numpy>=1.26", "fastapi>=0.115; extra == 'ui'", "jinja2>=3; extra == 'ui'",
                "fastapi>=0.115; extra == 'web'", "wandb>=0.18; extra == 'wandb'",
                "x; extra == 'dev'"]  # fmt: skip

    def version(name):
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    described = Message()
    for extra in ("ui", "web", "wandb", "dev"):
        described["Provides-Extra"] = extra
    recorded = SimpleNamespace(
        version=version, requires=lambda name: required, metadata=lambda name: described,
        PackageNotFoundError=metadata.PackageNotFoundError,
    )  # fmt: skip
    monkeypatch.setattr(installed_packages, "metadata", recorded)
    return versions


def test_what_is_printed(capsys, tmp_path, monkeypatch, installed):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    installed["wandb"] = "0.20"
    assert run(["doctor", str(tmp_path / "runs/deep")]) == 0
    said = capsys.readouterr().out
    facts = {line[:15].strip(): line[15:] for line in said.splitlines()}
    assert facts["iddpm"] == iddpm.__version__
    assert facts["packages"] == "numpy 2.1"
    assert facts["PyTorch"].startswith(torch.__version__)
    assert facts["threads"].startswith(f"{torch.get_num_threads()}, kernels for ")
    assert facts["cores"].startswith(f"{usable_cores()} usable")
    assert facts["disk"].endswith(" GB free in ~/runs/deep")
    assert facts["web"] == "fastapi 0.120"
    assert facts["not installed"] == "ui: pip install 'iddpm[ui]'"
    assert "IDDPM_CACHE=~/cache" in facts["environment"]
    assert said.endswith("no problems found\n")
    assert str(tmp_path) not in said
    assert "secret" not in said
    assert list(tmp_path.iterdir()) == []


def problems(directory=Path()):
    return " ".join(doctor.examine(directory).problems)


def test_packages_that_are_missing_or_too_old(installed):
    assert problems() == "wandb is 0.10, needed is >=0.18: pip install --upgrade 'iddpm[wandb]'"
    del installed["numpy"]
    assert "numpy is missing: pip install 'numpy>=1.26'" in problems()
    installed["iddpm"] = "0.0.1"
    assert "recorded as 0.0.1, but the code is" in problems()


@pytest.mark.parametrize(
    ("threads", "said"),
    [(str(usable_cores() + 1), "cores can be used"), ("many", "not a number"), ("1", None)],
)
def test_threads(threads, said, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert ("OMP_NUM_THREADS" in problems()) == (said is not None)
    assert said is None or said in problems()


@pytest.mark.parametrize(
    ("cuda", "said"), [(None, "built for CPUs only"), ("12.6", "older than CUDA 12.6")]
)
def test_a_device_that_pytorch_cannot_use(cuda, said, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "NVIDIA" not in problems()
    monkeypatch.setattr(doctor, "nvidia_devices", lambda: ["nvidia0"])
    assert said in problems()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "NVIDIA" not in problems()


def test_devices_are_files_with_a_number(tmp_path):
    for name in ("nvidia0", "nvidiactl", "null"):
        (tmp_path / name).touch()
    assert nvidia_devices(tmp_path) == ["nvidia0"]


def test_a_directory_that_cannot_be_used(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert f"{tmp_path / 'file'} is a file" in problems(tmp_path / "file/runs")

    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    usage = namedtuple("usage", "free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: usage(5e6))
    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", read_only)
    assert f"nothing can be written in {tmp_path}: Read-only file system" in problems(tmp_path)
    assert f"{tmp_path} has 5 MB left" in problems(tmp_path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("/home/a/x:/home/a", "~/x:~"), ("/home/ab/x", "/home/ab/x"), ("home/a", "home/a")],
)
def test_the_home_directory_is_not_shown(text, shown, monkeypatch):
    monkeypatch.setenv("HOME", "/home/a")
    assert doctor.without_home(text) == shown


def test_without_pytorch_the_rest_is_printed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    found = doctor.examine(Path())
    assert any(problem.startswith("torch cannot be imported") for problem in found.problems)
    assert "cores" in dict(found.facts)


def test_measured_precision(monkeypatch):
    monkeypatch.setattr("iddpm.training.precision.computes_bfloat16", lambda: True)
    for shares, said in (([], "not yet measured"), ([0.5, 0.95], "bf16 for 1 of 2 networks")):
        monkeypatch.setattr(measured_precision, "kept_shares", lambda shares=shares: shares)
        assert dict(doctor.examine(Path()).facts)["precision"].startswith(said)


def test_the_command_line_does_not_import_pytorch_for_it():
    program = "import sys, iddpm.cli.doctor, iddpm.tasks.doctor; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
