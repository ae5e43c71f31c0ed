"""Models that give a probability to each level of the data: trained, drawn, measured, resumed."""

import math

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders.level_counts import count_levels
from iddpm.builders.run_data import open_split
from iddpm.config import read_config
from iddpm.data.levels import round_to_levels
from iddpm.networks import LevelHead
from iddpm.tasks.likelihood import likelihood
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, assert_same_state

COSINE = "diffusion.schedule=cosine"
LEVELS = ("diffusion.predicts=categorical", "diffusion.schedule=log_snr")


def trained(folder, x, *settings, network=None, steps=2, resume=False, name="run"):
    np.savez(folder / "x.npz", arr_0=x, arr_1=np.arange(len(x)) % 3)
    own = [*TINY, "data.held_out=0.25", "diffusion.num_steps=20", *LEVELS, *settings]
    return iddpm.train(
        None if resume else folder / "x.npz",
        out=folder / name,
        network=network,
        resume=resume,
        settings=[*([] if resume else own), f"training.steps={steps}"],
        reporter=SilentReporter(),
    )


def data(*shape, top=256, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, top, (24, *shape)).astype(dtype)


@pytest.mark.parametrize(
    ("shape", "settings"),
    [
        ((16, 1), ["data.layout=NLC", COSINE, "diffusion.self_condition=true"]),
        ((8, 6, 3), ["data.layout=NHWC", "model.class_conditional=true", "sampling.guidance=2"]),
        ((8, 8, 2), ["data.layout=NHWC", "diffusion.variance=fixed_small", "diffusion.loss=vlb"]),
        ((8, 8, 1), ["data.layout=NHWC", "task=super_resolution", "scale=2"]),
        ((4, 6, 6, 1), ["data.layout=NDHWC", "diffusion.variance=learned", "diffusion.loss=vlb"]),
    ],
)
def test_every_kind_of_data_is_trained_drawn_and_measured(tmp_path, shape, settings):
    run = trained(tmp_path, data(*shape), *settings)
    conditioning = {}
    if "task=super_resolution" in settings:
        conditioning["given"] = {"low_res": torch.zeros(3, 1, 4, 4)}
    for sampler, levels in (("ddpm", "mode"), ("unipc_2", "draw")):
        x = run.sample(3, sampler=sampler, levels=levels, **conditioning)
        assert torch.equal(x, round_to_levels(x, 8)), "what is drawn lies on the data's levels"
        one = {"given": {"low_res": torch.zeros(1, 1, 4, 4)}} if conditioning else {}
        assert torch.equal(x[:1], run.sample(1, sampler=sampler, levels=levels, **one))
    mean = run.sample(3, sampler="ddpm", levels="mean", **conditioning)
    assert not torch.equal(mean, round_to_levels(mean, 8))
    whole = likelihood(run)
    few = likelihood(run, steps=10, stride="optimal", variance="analytic", table_items=4)
    assert math.isfinite(whole.total.mean)
    assert math.isfinite(few.total.mean)
    if COSINE in settings:
        return
    # Noise a sixth of a level: the decoder knows the level, whatever the variance.
    assert whole.decoder.mean < 0.05
    assert few.decoder.mean == pytest.approx(whole.decoder.mean, abs=0.02)


@pytest.mark.parametrize("decoder", ["levels", "categorical"])
def test_another_model_may_have_such_a_decoder(tmp_path, decoder):
    settings = ["data.layout=NHWC", COSINE, "diffusion.predicts=eps", "diffusion.num_steps=1000",
                f"diffusion.decoder={decoder}"]  # fmt: skip
    run = trained(tmp_path, data(8, 8, 2), *settings, "training.timestep_sampler=low_discrepancy")
    x = run.sample(2, sampler="ddpm", steps=4)
    assert torch.equal(x, round_to_levels(x, 8))
    drawn = run.sample(2, sampler="ddpm", steps=4, levels="draw")
    assert torch.equal(drawn, round_to_levels(drawn, 8))
    found = likelihood(run, samples_per_item=4)
    # Noise of 0.816 levels of uniform data leaves log2(0.816 sqrt(2 pi e)) = 1.75 bits open.
    assert found.decoder.mean == pytest.approx(1.75, abs=0.2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["predicts=categorical", "decoder=levels"], "predicts=categorical has its own decoder"),
        (
            ["decoder=categorical", "loss=simple", "variance=fixed_small"],
            "does not train decoder=categorical: use loss=hyb",
        ),
        (["decoder=sharp"], "diffusion.decoder=.*'gaussian', 'levels' or 'categorical'"),
    ],
)
def test_decoders_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        read_config(None, [f"diffusion.{setting}" for setting in settings])


def test_the_first_probabilities_are_those_of_the_training_data(tmp_path):
    x = data(8, 8, 2)
    x[:, :, :, 1] = np.minimum(x[:, :, :, 1], 3)
    run = trained(tmp_path, x, "data.layout=NHWC", "training.learning_rate=1e-12", steps=1)
    split = open_split(run.config)
    counts = count_levels(split.source, split.train)
    seen = split.source.read_many(split.train)
    assert counts.tolist() == [
        np.bincount(seen[:, c].ravel(), minlength=256).tolist() for c in (0, 1)
    ]
    head = run.denoiser.network
    assert isinstance(head, LevelHead)
    counts = counts + 0.5
    assert torch.allclose(head.bias.exp(), (counts / counts.sum(1, keepdim=True)).float())


def test_a_run_that_was_cut_short_goes_on_bit_for_bit(tmp_path):
    x = data(8, 8, 1)
    trained(tmp_path, x, "data.layout=NHWC", steps=4, name="whole")
    trained(tmp_path, x, "data.layout=NHWC", steps=2, name="parts")
    trained(tmp_path, x, steps=4, resume=True, name="parts")
    assert_same_state(tmp_path / "whole", tmp_path / "parts")


class Same(torch.nn.Module):
    """A network that returns no features."""

    def forward(self, x, timesteps):
        return x


class Own(torch.nn.Module):
    """A network of somebody's own: 24 features of each of the channels, and a variance."""

    def __init__(self, outputs=25):
        super().__init__()
        self.layer = torch.nn.Conv2d(1, outputs, 3, padding=1)

    def forward(self, x, timesteps):
        return self.layer(x)


def test_an_own_network_gives_the_features(tmp_path):
    run = trained(tmp_path, data(8, 8, 1), "data.layout=NHWC", network=Own())
    assert run.config.diffusion.variance == "learned_range"
    assert run.config.diffusion.neighborhood == 0
    assert iddpm.load(run.directory, network=Own()).sample(1).isfinite().all()
    with pytest.raises(ValueError, match=r"it must return \(2, 24, 8, 8\), or \(2, 25, 8, 8\)"):
        trained(tmp_path, data(8, 8, 1), "data.layout=NHWC", network=Same(), name="b")
    near = ("data.layout=NHWC", "diffusion.neighborhood=1")
    with pytest.raises(ValueError, match=r"it must return \(2, 34, 8, 8\), or \(2, 35, 8, 8\)"):
        trained(tmp_path, data(8, 8, 1), *near, network=Own(), name="c")
    run = trained(tmp_path, data(8, 8, 1), *near, network=Own(35), name="d")
    assert run.sample(1).isfinite().all()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (data(8, 8, 1, top=60_000, dtype=np.uint16), "has 16 bits: use predicts=v"),
        (data(8, 8, 1).astype(np.float32) / 255, "is continuous: use predicts=v"),
    ],
)
def test_more_levels_than_256_are_refused(tmp_path, x, said):
    with pytest.raises(ValueError, match=f"at most 8 bits, and this data {said}") as raised:
        trained(tmp_path, x, "data.layout=NHWC")
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_what_is_made_of_levels_needs_a_model_of_them(tmp_path):
    run = trained(tmp_path, data(8, 8, 1), "data.layout=NHWC", "diffusion.predicts=v")
    with pytest.raises(ValueError, match=r"levels=draw needs a model.*this one predicts v"):
        run.sample(1, levels="draw")


def test_errors_are_not_measured_in_levels():
    with pytest.raises(ValueError, match=r"diffusion\.loss\.space.*'eps'"):
        read_config(None, ["diffusion.loss.space=categorical"])
