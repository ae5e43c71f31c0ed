"""Runs with a network and a loss of the user's own, from Python and from the command line."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

import iddpm
from iddpm.cli.main import run as command
from iddpm.runtime.processes import ALONE, Ranks
from iddpm.tasks.training_setup import TrainRequest, open_training
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import assert_same_state

ROOT = Path(__file__).parents[2]
FACTORY = """
from tests.tasks.test_own_code import Tiny


def make(channels, out_channels, size, num_classes):
    assert size == (8, 8)
    return Tiny(channels, out_channels, num_classes)


def wrong(channels):
    return channels


number = 3
"""
SETTINGS = (
    "diffusion.num_steps=20",
    "training.batch_size=8",
    "training.log_every=2",
    "training.preview_every=0",
    "training.validate_every=0",
    "training.threads=1",
    "sampling.steps=4",
    "data.held_out=0.2",
)


class Tiny(nn.Module):
    """A network that knows nothing of this library."""

    def __init__(self, channels=1, out_channels=2, num_classes=None, float_time=True):
        super().__init__()
        self.stem = nn.Conv2d(channels, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)  # buffers that training changes
        self.label = nn.Embedding((num_classes or 0) + 1, 8)
        self.head = nn.Conv2d(8, out_channels, 3, padding=1)

    def forward(self, x, timesteps, y=None):
        assert timesteps.dtype == torch.float32
        assert timesteps.shape == (len(x),)
        emb = timesteps[:, None] / 1000 + (0 if y is None else self.label(y + 1))
        emb = emb.expand(len(x), 8) if emb.shape[1] == 1 else emb
        return self.head(torch.tanh(self.norm(self.stem(x)) + emb[:, :, None, None]))


class Broken(Tiny):
    def __init__(self, how):
        super().__init__()
        self.how = how

    def forward(self, x, timesteps, **conditioning):
        if self.how == "raises":
            raise RuntimeError("mat1 and mat2\ncannot be multiplied")
        if self.how == "channels":
            return torch.cat([x, x, x], dim=1)
        if self.how == "tuple":
            return x, x
        if self.how == "nan":
            return x / 0 * 0
        return x[..., :-1]


def seeded(**options):
    torch.manual_seed(3)
    return Tiny(**options)


def train(data, out, *settings, **options):
    return iddpm.train(
        data, out=out, settings=[*SETTINGS, *settings], reporter=SilentReporter(), **options
    )


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """Work in a directory that holds the module own.py."""
    (tmp_path / "own.py").write_text(FACTORY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    yield "own:make"
    sys.modules.pop("own", None)


def test_a_run_is_resumed_sampled_and_measured(tmp_path, array_file):
    network = seeded(num_classes=3)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    classes = "model.class_conditional=true"
    whole = train(array_file, tmp_path / "whole", classes, "training.steps=6", network=network)
    assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items()), "it is copied"
    parts, limit = tmp_path / "parts", "training.max_time=0.001"
    train(array_file, parts, classes, "training.steps=6", limit, network=network)
    train(None, parts, "training.max_time=null", resume=True, network=Tiny(num_classes=3))
    assert_same_state(tmp_path / "whole", parts)
    run = iddpm.load(parts, network=Tiny(num_classes=3))
    assert torch.equal(run.sample(4, guidance=2.0), whole.sample(4, guidance=2.0))
    assert run.config.model.network == f"{Tiny.__module__}.Tiny"
    assert iddpm.likelihood(run, steps=4).total.mean > 0
    assert iddpm.evaluate(run, n=8).report["samples"]
    other = iddpm.load(parts, network=Tiny(num_classes=3), ema="none")
    assert other.denoiser.network is not run.denoiser.network
    weaker = run.sample(2, autoguidance=parts, autoguidance_scale=2.0)
    assert weaker.shape == (2, 1, 8, 8)


def test_the_command_line_takes_a_factory(tmp_path, array_file, factory, capsys):
    out = str(tmp_path / "run")
    base = [x for s in SETTINGS for x in ("-s", s)]
    own = ["--network", factory]
    assert command(["train", str(array_file), *base, "--out", out, "--steps", "2", *own]) == 0
    assert command(["train", "--resume", "--out", out, "--steps", "4", *own]) == 0
    assert command(["sample", out, "-n", "2", *own]) == 0
    assert command(["likelihood", out, "--steps", "4", *own]) == 0
    assert command(["evaluate", out, "-n", "8", *own]) == 0
    assert command(["edit", out, "0", "-n", "1", *own]) == 0
    assert command(["interpolate", out, "0", "1", "--frames", "3", *own]) == 0
    capsys.readouterr()
    assert command(["info", out]) == 0
    assert "Tiny, predicts v" in capsys.readouterr().out
    assert command(["info", out, *own]) == 0
    assert "0.00 M in own:make" in capsys.readouterr().out
    for arguments in (["sample", out], ["train", "--resume", "--out", out, "--steps", "9"]):
        assert command(arguments) == 2
        assert "has your own network" in capsys.readouterr().err
    for wrong, message in (
        ("own", "write package.module:factory"),
        ("nowhere:make", "nowhere failed to import: ModuleNotFoundError"),
        ("own:number", "own has no function or class number"),
        (
            "own:wrong",
            r"own:wrong(channels=1, out_channels=2, size=(8, 8), num_classes=None) failed",
        ),
    ):
        assert command(["sample", out, "--network", wrong]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.system
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, array_file, factory):
    base = [x for s in (*SETTINGS, "training.save_every=20") for x in ("-s", s)]
    start = ["train", str(array_file), *base, "--steps", "400", "--network", factory]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    process = subprocess.Popen(
        [sys.executable, "-m", "iddpm", *start, "--out", str(tmp_path / "killed")],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    while not list((tmp_path / "killed").glob("checkpoints/step_*")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL, process.stderr.read()
    assert command(["train", "--resume", "--out", "killed", "--network", factory]) == 0
    assert command([*start, "--out", "whole"]) == 0
    assert_same_state(tmp_path / "whole", tmp_path / "killed")


def test_channels_decide_variance_and_loss(tmp_path, array_file):
    run = train(array_file, tmp_path / "c", "training.steps=1", network=Tiny(out_channels=1))
    assert (run.config.diffusion.variance, run.config.diffusion.loss.kind) == (
        "fixed_small",
        "simple",
    )
    run = train(array_file, tmp_path / "2c", "training.steps=1", network=Tiny())
    assert run.config.diffusion.variance == "learned_range"
    with pytest.raises(ValueError, match="variance=learned needs a network that returns 2 channel"):
        train(
            array_file, tmp_path / "x", "diffusion.variance=learned", network=Tiny(out_channels=1)
        )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("raises", "failed with x .2, 1, 8, 8. .* RuntimeError: mat1 and mat2 cannot be"),
        ("channels", "returned .2, 3, 8, 8. for x .* must return .2, 1, 8, 8., or .2, 2, 8, 8."),
        ("tuple", "returned a tuple"),
        ("nan", "not finite"),
        ("size", "returned .2, 1, 8, 7."),
    ],
)
def test_a_network_that_does_not_fit_is_refused(tmp_path, array_file, how, message):
    with pytest.raises(ValueError, match=message):
        train(array_file, tmp_path / "x", network=Broken(how))
    assert not (tmp_path / "x").exists()


def test_refusals_of_networks(tmp_path, array_file):
    with pytest.raises(ValueError, match="network is the class Tiny"):
        train(array_file, tmp_path / "x", network=Tiny)
    with pytest.raises(ValueError, match="which a run never imports"):
        train(array_file, tmp_path / "x", "model.network=own")
    few = Tiny(num_classes=3)
    few.label = nn.Embedding(3, 8)
    few.forward = lambda x, t, y: x + few.label(y).sum(1)[:, None, None, None]
    with pytest.raises(ValueError, match="y is -1 and conditions are NaN where they are hidden"):
        train(array_file, tmp_path / "x", "model.class_conditional=true", network=few)
    run = train(array_file, tmp_path / "own", "training.steps=1", network=Tiny())
    with pytest.raises(ValueError, match=r"own network, .*\.Tiny, which a run never imports"):
        iddpm.load(run.directory)
    with pytest.raises(ValueError, match="network of another size"):
        iddpm.load(run.directory, network=Tiny(out_channels=1))
    with pytest.warns(UserWarning, match="model.num_res_blocks is for the built-in network"):
        train(
            array_file, tmp_path / "warned", "model.num_res_blocks=7", "training.steps=1",
            network=Tiny(),
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what a preset sets was not asked for
        train(array_file, tmp_path / "quick", "preset=quick", "training.steps=1", network=Tiny())


def absolute_error(denoiser, x0, t, noise, **conditioning):
    x_t = denoiser.diffusion.q_sample(x0, t, noise)
    prediction = denoiser(x_t, denoiser.diffusion.schedule.at(t), **conditioning)
    return (prediction.eps - noise).abs().flatten(1).mean(1)


def test_an_own_loss_is_trained_and_required_again(tmp_path, array_file, tiny):
    small = [*tiny, "data.held_out=0.2", "training.validate_every=2"]
    out = tmp_path / "run"
    run = train(array_file, out, *small, "training.steps=2", loss=absolute_error)
    assert run.config.diffusion.loss.name == f"{__name__}.absolute_error"
    assert run.config.diffusion.variance == "fixed_small"
    assert 0.5 < run.log[-1]["held_out_loss"] < 1.2  # E|eps| is 0.8 where nothing is learned
    with pytest.raises(ValueError, match=r"own loss, .*absolute_error, which a run never imports"):
        train(None, out, *small, "training.steps=4", resume=True)
    with pytest.raises(ValueError, match=r"cannot be resumed with .*simple"):
        train(None, out, *small, "training.steps=4", resume=True, loss=iddpm.losses.simple)
    train(None, out, *small, "training.steps=4", resume=True, loss=absolute_error)
    assert iddpm.load(out).sample(1).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (3, "loss is 3: pass a function"),
        (lambda denoiser, x0, t, noise: x0.mean(), "one value per item, shape"),
        (lambda denoiser, x0, t, noise: 1.0, "the loss returned a float"),
    ],
)
def test_losses_that_do_not_fit_are_refused(tmp_path, array_file, tiny, loss, message):
    with pytest.raises(ValueError, match=message):
        train(array_file, tmp_path / "x", *tiny, "training.steps=1", loss=loss)


def test_other_weights_in_another_process_raise_an_error(tmp_path, array_file):
    class Two(Ranks):
        def gathered(self, value):
            return [value, "the hash of other weights"]

    request = TrainRequest(array_file, network=Tiny(), settings=SETTINGS, out=tmp_path / "x")
    with pytest.raises(ValueError, match=r"call torch\.manual_seed before you build it"):
        open_training(request, Two())
    assert open_training(request, ALONE).own is not None
