"""The precision of a run: measured once at its start, printed, recorded, and kept on resume."""

import shutil
from pathlib import Path

import pytest
import torch

import iddpm
from iddpm.builders import measured_precision as measured
from iddpm.training.monitoring.terminal import SilentReporter

OLD_RUN = Path(__file__).parents[1] / "runs/version_0_1"
SHORT = ("training.precision=auto", "training.steps=2")


class Said(SilentReporter):
    """Keep the messages."""

    def __init__(self):
        self.lines = []

    def say(self, message):
        self.lines += message.splitlines()


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """A CPU whose bfloat16 takes as long as this, in units of float32, and no matrix units."""
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(measured, "computes_bfloat16", lambda: True)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)

    def share(value):
        monkeypatch.setattr(measured, "_measured", lambda convolutions, timer: value)

    return share


def train(out, data=None, settings=(), **options):
    said = Said()
    run = iddpm.train(data, out=out, settings=settings, reporter=said, **options)
    return run.config.training.precision, "\n".join(said.lines)


def test_the_choice_is_reported_and_kept(tmp_path, array_file, tiny, clock):
    clock(0.5)
    out = tmp_path / "run"
    name, said = train(out, array_file, [*tiny, *SHORT])
    assert name == "bf16"
    assert "precision  bf16: convolutions of this network take 0.50 times as long" in said
    assert "bf16 on cpu" in said
    clock(3.0)
    name, said = train(out, settings=["training.steps=4"], resume=True)
    assert name == "bf16"
    assert "precision  " not in said
    assert "bf16 on cpu" in said
    # Without the cache, auto chooses again.
    (cached,) = (tmp_path / "cache/precision").iterdir()
    cached.unlink()
    auto = ["training.steps=6", "training.precision=auto"]
    assert train(out, settings=auto, resume=True)[0] == "float32"


def test_a_run_without_a_record_goes_on_in_what_it_had(tmp_path, clock):
    out = tmp_path / "run"
    shutil.copytree(OLD_RUN / "run", out)
    config = out / "config.yaml"
    text = config.read_text().replace("path: pictures.npz", f"path: {OLD_RUN / 'pictures.npz'}")
    assert "  precision: float32\n  compile" in text
    config.write_text(
        text.replace("  precision: float32\n  compile", "  precision: auto\n  compile")
    )
    clock(0.1)
    name, said = train(out, settings=["training.steps=8"], resume=True)
    assert name == "float32"
    assert "float32 on cpu" in said


def test_samples_and_likelihoods_are_computed_in_what_is_faster(
    tmp_path, array_file, tiny, clock, monkeypatch
):
    clock(3.0)
    out = tmp_path / "run"
    train(out, array_file, [*tiny, *SHORT])
    run, dtypes = iddpm.load(out), []

    def drawn(name):
        run.denoiser.network.register_forward_hook(lambda *a: dtypes.append(a[2].dtype))
        run.sample(1, steps=1, precision=name)
        iddpm.likelihood(run, steps=2, max_items=1, precision=name)
        found = set(dtypes)
        dtypes.clear()
        return found

    assert drawn("auto") == {torch.float32}  # as it was measured for the training
    shutil.rmtree(tmp_path / "cache")
    clock(0.5)
    assert drawn("auto") == drawn("bf16")
    assert drawn("auto") != drawn("float32")
