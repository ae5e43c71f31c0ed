"""Colors come out as they went in: eps tints pictures for long, other predictions do not."""

import numpy as np
import pytest
import torch

import iddpm
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY

COLOR = (230, 90, 20)


@pytest.fixture(scope="module")
def one_color(tmp_path_factory):
    path = tmp_path_factory.mktemp("colors") / "color.npz"
    np.savez(path, arr_0=np.tile(np.array(COLOR, dtype=np.uint8), (64, 6, 6, 1)))
    return path


def off(path, predicts, *settings):
    """How far 16 samples' mean color is off after a short training (RMS, in levels of 8 bits)."""
    run = iddpm.train(
        path,
        out=path.parent / predicts,
        settings=[
            *TINY,
            "training.steps=120",
            "model.channel_mult=[1]",
            "model.attention_downsampling=[]",
            "training.gradient_clip=null",
            "training.learning_rate=1e-2",
            "training.ema_rates=[0.95]",
            f"diffusion.predicts={predicts}",
            *settings,
        ],
        reporter=SilentReporter(),
    )
    x = run.sample(16, steps=10, sampler="ddim")
    mean = (x.mean(dim=(0, 2, 3)) + 1) * 127.5
    return float((mean - torch.tensor(COLOR)).square().mean().sqrt())


@pytest.fixture(scope="module")
def of_eps(one_color):
    return off(one_color, "eps")


@pytest.mark.parametrize(
    ("predicts", "settings"),
    [
        ("v", []),
        ("x0", ["diffusion.loss=simple", "diffusion.variance=fixed_small"]),
        ("edm", ["diffusion.zero_terminal_snr=true"]),
    ],
)
def test_v_x0_and_edm_keep_the_color_long_before_eps_does(one_color, of_eps, predicts, settings):
    """Each beside eps, trained as long from the same seed.

    By 8 seeds eps is 83 to 110 levels off, and nobody else more than a tenth of that.
    """
    assert off(one_color, predicts, *settings) < of_eps / 4
