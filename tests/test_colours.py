"""Colours come out as they went in: eps tints pictures for long, other predictions do not."""

import numpy as np
import pytest

import iddpm
from iddpm.training.monitoring.terminal import SilentReporter

COLOUR = (230, 90, 20)


@pytest.fixture
def one_colour(tmp_path):
    path = tmp_path / "colour.npz"
    np.savez(path, arr_0=np.tile(np.array(COLOUR, dtype=np.uint8), (64, 6, 6, 1)))
    return path


def drawn(path, tiny, *settings):
    """The mean of each channel of 16 samples, in levels of 8 bits, after a short training."""
    run = iddpm.train(
        path,
        out=path.parent / "run",
        settings=[
            *tiny,
            "training.steps=120",
            "model.channel_mult=[1]",
            "model.attention_downsampling=[]",
            "training.gradient_clip=null",
            "training.learning_rate=1e-2",
            "training.ema_rates=[0.95]",
            *settings,
        ],
        reporter=SilentReporter(),
    )
    x = run.sample(16, steps=10, sampler="ddim")
    return ((x.mean(dim=(0, 2, 3)) + 1) * 127.5).tolist()


@pytest.mark.parametrize(
    "settings",
    [
        ["diffusion.predicts=v"],
        ["diffusion.predicts=x0", "diffusion.loss=simple", "diffusion.variance=fixed_small"],
        ["diffusion.predicts=edm", "diffusion.zero_terminal_snr=true"],
    ],
)
def test_v_x0_and_edm_keep_the_colour(one_colour, tiny, settings):
    assert drawn(one_colour, tiny, *settings) == pytest.approx(COLOUR, abs=8)


def test_eps_has_not_learned_it_yet(one_colour, tiny):
    off = np.abs(np.subtract(drawn(one_colour, tiny, "diffusion.predicts=eps"), COLOUR))
    assert off.max() > 25
