"""Waves of the network's input: their periods, their damping, and where they are seen."""

import math

import pytest
import torch

from iddpm.builders import resolve
from iddpm.builders.meta_network import example_inputs
from iddpm.builders.network import build_denoiser, build_network
from iddpm.config import read_config
from iddpm.diffusion import Denoiser, GaussianDiffusion, log_snr
from iddpm.diffusion.fourier import fourier_features
from tests.conftest import TINY


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_first_period_is_one_level_and_each_other_twice_the_one_before(bits):
    grid = torch.linspace(-1, 1, 2**bits, dtype=torch.float64).reshape(1, 1, -1)
    level = log_snr(10, log_snr_max=30.0).at(torch.tensor([0]))
    for shift in (0.0, 0.3):
        x = grid + shift * 2 / (2**bits - 1)
        sines, cosines = fourier_features(x, level, 3, bits).reshape(3, 2, -1).unbind(1)
        for k in range(3):
            phase = 2 * math.pi * (torch.arange(2**bits).double() + shift) / 2**k
            first = torch.atan2(sines[k, 0], cosines[k, 0]) - phase[0]
            assert torch.allclose(torch.atan2(sines[k], cosines[k]).cos(), (phase + first).cos())
            assert torch.allclose(sines[k] ** 2 + cosines[k] ** 2, torch.ones(()).double())


def test_the_damping_is_the_mean_of_the_wave_over_the_noise():
    """E[cos(w (x + s e))] = exp(-(w s)^2 / 2) cos(w x), here by the trapezoid rule."""
    level = log_snr(30, log_snr_max=12.0).at(torch.tensor([0, 3, 6]))
    s = (1 - level.alpha_bar).sqrt().reshape(3, 1, 1)
    x = torch.full((3, 1, 1), 0.31, dtype=torch.float64)
    clean = level._replace(alpha_bar=torch.ones(3, dtype=torch.float64))
    nodes = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    weights = torch.softmax(-0.5 * nodes**2, 0)
    mean = (fourier_features(x + s * nodes, clean, 2, 8) * weights).sum(-1)
    found = fourier_features(x, level, 2, 8)[..., 0]
    damping = torch.exp(-0.5 * (255 * math.pi * s[:, 0]) ** 2)
    assert torch.allclose(found[:, :2], fourier_features(x, clean, 2, 8)[:, :2, 0] * damping)
    assert torch.allclose(found, mean, atol=1e-9)


def test_the_network_sees_them_in_float32_behind_the_data():
    """bfloat16 keeps half a level near 1: the waves would be noise."""
    seen = []

    def network(x, shown):
        seen.append(x)
        return x[:, :2] * 0

    schedule = log_snr(20)
    denoiser = Denoiser(
        network, GaussianDiffusion(schedule, "fixed_small"), "v", fourier=3, self_condition=True
    )
    x_t = torch.linspace(0.9, 1.1, 24).reshape(2, 2, 6)
    level = schedule.at(torch.tensor([0, 9]))
    with torch.autocast("cpu", torch.bfloat16):
        denoiser(x_t, level, estimate=torch.full_like(x_t, 0.5))
    (x,) = seen
    assert x.shape == (2, 2 * (1 + 6 + 1), 6)
    assert torch.equal(x[:, :2], x_t)
    exact = fourier_features(x_t.double(), level, 3, 8)
    assert torch.allclose(x[:, 2:14].double(), exact, atol=1e-4)
    assert torch.equal(x[:, 14:], torch.full_like(x_t, 0.5))


@pytest.mark.parametrize("size", ["[16]", "[8,8]", "[4,8,8]"])
def test_a_network_of_every_dimension_takes_them(size):
    config = resolve(
        read_config(
            None,
            [*TINY, "model.channels=2", f"model.size={size}", "diffusion.fourier_features=3"],
        )
    )
    assert example_inputs(config, 1)["x"].shape[1] == 14
    denoiser = build_denoiser(config, build_network(config))
    x_t = torch.zeros(1, *config.model.shape)
    said = denoiser(x_t, denoiser.diffusion.schedule.at(torch.tensor([3])))
    assert said.x0.shape == x_t.shape


def test_continuous_data_has_no_periods():
    with pytest.raises(ValueError, match="and this data is continuous: leave it out"):
        read_config(None, ["bits=null", "diffusion.fourier_features=3"])
    with pytest.raises(ValueError, match="bits=None means that it has none: leave them out"):
        Denoiser(None, GaussianDiffusion(log_snr(5)), "v", fourier=1, bits=None)
