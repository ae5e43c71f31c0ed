"""The Haar transform around a network: orthonormal, undone exactly, and of no effect on a bound."""

import math

import numpy as np
import pytest
import torch

import iddpm
from iddpm.builders import build_network, count_flops, resolve
from iddpm.config import read_config
from iddpm.diffusion import Denoiser, GaussianDiffusion, bits_per_dim, log_snr
from iddpm.networks import SuperResUNet, WaveletNetwork
from iddpm.networks.layers import resize_linear
from iddpm.networks.wavelets import coefficients, from_coefficients
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY

AXES = [(2,), (2, 2), (1, 2), (1, 2, 2), (2, 2, 2)]


def normal(*shape, dtype=torch.float64):
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("strides", AXES)
def test_it_is_orthonormal_and_keeps_the_volume(strides):
    size = [2 if s == 1 else 4 for s in strides]
    count = math.prod(size)
    basis = torch.eye(count, dtype=torch.float64).reshape(count, 1, *size)
    matrix = coefficients(basis, strides).flatten(1)
    assert torch.allclose(matrix @ matrix.T, torch.eye(count).double(), atol=1e-12)
    assert abs(float(torch.linalg.slogdet(matrix).logabsdet)) < 1e-12
    assert matrix.min() < 0


@pytest.mark.parametrize("strides", AXES)
def test_the_round_trip_is_exact_and_bands_of_a_channel_stay_together(strides):
    x = normal(2, 3, *[4] * len(strides), dtype=torch.float32)
    there = coefficients(x, strides)
    bands = 2 ** strides.count(2)
    assert there.shape == (2, 3 * bands, *[4 // s for s in strides])
    assert (from_coefficients(there, strides) - x).abs().max() < 1e-6
    alone = coefficients(x[:, 1:2], strides)
    assert torch.equal(there[:, bands : 2 * bands], alone)
    flat = coefficients(torch.ones_like(x), strides)
    low, *others = flat.unflatten(1, (3, bands)).unbind(2)
    assert torch.allclose(low, torch.full_like(low, math.sqrt(bands)))
    assert all(float(other.abs().max()) < 1e-6 for other in others)


@pytest.mark.parametrize("strides", AXES)
def test_patches_are_a_permutation_that_is_undone_exactly(strides):
    x = torch.arange(2 * 3 * 4 ** len(strides)).reshape(2, 3, *[4] * len(strides)).float()
    there = coefficients(x, strides, "patch")
    assert there.shape == (2, 3 * 2 ** strides.count(2), *[4 // s for s in strides])
    assert torch.equal(there.flatten().sort().values, x.flatten())
    assert torch.equal(from_coefficients(there, strides, "patch"), x)
    if strides == (2, 2):
        assert torch.equal(there, torch.nn.functional.pixel_unshuffle(x, 2))


@pytest.mark.parametrize("levels", [1, 2])
def test_a_function_of_each_place_alone_is_the_same_on_patches(levels):
    x, given, time = normal(2, 1, 8, 4), normal(2, 1, 8, 4), torch.tensor([1.0, 500.0])
    network = WaveletNetwork(Inner(), (2, 2), levels, basis="patch")
    assert torch.equal(network(x, time, given=given), Inner()(x, time, given=given))


class Inner(torch.nn.Module):
    """Any smooth function of coefficients and time, each place and channel alone."""

    def forward(self, x, timesteps, given=None):
        time = timesteps.reshape(-1, *[1] * (x.dim() - 1)).to(x) / 1000
        return torch.tanh(x * (0.3 + time)) + (0 if given is None else given)


@pytest.mark.parametrize("levels", [1, 2])
def test_the_bound_is_that_of_a_process_on_the_coefficients(levels):
    """To diffuse coefficients is to diffuse the data: their bounds agree, item by item."""
    diffusion = GaussianDiffusion(log_snr(12), "fixed_small")
    around = Denoiser(WaveletNetwork(Inner(), (2, 2), levels), diffusion, "v")
    inside = Denoiser(Inner(), diffusion, "v")
    x0, noise = normal(3, 1, 8, 4).clamp(-1, 1), normal(12, 3, 1, 8, 4)

    def there(x):
        for _ in range(levels):
            x = coefficients(x, (2, 2))
        return x

    options = {"clip": False, "bits": None}
    ours = bits_per_dim(diffusion, around, x0, noise=lambda k: noise[k], **options)
    theirs = bits_per_dim(diffusion, inside, there(x0), noise=lambda k: there(noise[k]), **options)
    assert torch.allclose(ours.vb, theirs.vb, rtol=1e-9)
    assert torch.allclose(ours.total, theirs.total, rtol=1e-9)


def test_what_is_given_is_transformed_too():
    x, given = normal(1, 1, 4, 4), normal(1, 1, 4, 4)
    network, time = WaveletNetwork(Inner(), (2, 2), 1), torch.zeros(1)
    change = network(x, time, given=given) - network(x, time)
    assert torch.allclose(change, given)


def test_a_low_resolution_is_resized_and_then_transformed():
    torch.manual_seed(0)
    inner = SuperResUNet(
        dims=2, in_channels=4, out_channels=4, model_channels=8, num_res_blocks=1,
        channel_mult=(1,), circular=(False, True),
    ).double()  # fmt: skip
    for parameter in inner.parameters():  # what starts at zero shows nothing
        parameter.data.normal_(0, 0.2)
    around = WaveletNetwork(inner, (2, 2), 1, circular=(False, True))
    x, low_res, time = normal(2, 1, 8, 12), normal(2, 1, 4, 6), torch.ones(2)
    resized = coefficients(resize_linear(low_res, (8, 12), (False, True)), (2, 2))
    expected = from_coefficients(inner(coefficients(x, (2, 2)), time, low_res=resized), (2, 2))
    assert torch.allclose(around(x, time, low_res=low_res), expected)
    assert expected.abs().max() > 0.01


@pytest.mark.parametrize(
    ("size", "inner", "bands"),
    [("[16]", (8,), 2), ("[8,12]", (4, 6), 4), ("[4,8,8]", (4, 4, 4), 4), ("[8,8,8]", (4,) * 3, 8)],
)
def test_the_network_is_proposed_for_the_grid_that_it_works_at(size, inner, bands):
    stated = ["model.channels=2", f"model.size={size}", "model.wavelets=1", "model.num_heads=1"]
    config = resolve(read_config(None, [*stated, "training.batch_size=2"]))
    plain = resolve(
        read_config(
            None,
            ["model.channels=2", f"model.size={list(inner)}", "model.num_heads=1",
             "training.batch_size=2", f"model.stride={list(config.model.stride)}"],
        )
    )  # fmt: skip
    assert config.model.channel_mult == plain.model.channel_mult
    assert config.model.attention_downsampling == plain.model.attention_downsampling
    network = build_network(config)
    assert network.network.in_channels == 2 * bands
    x = torch.zeros(1, *config.model.shape)
    assert network(x, torch.zeros(1)).shape == (1, 4, *config.model.size)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["model.size=[8,9]"],
            "halves each axis 1 times, and the data is 8 x 9: use data of 8 x 8",
        ),
        (["model.size=[8,8]", "task=classification"], "for networks that denoise, and task=class"),
    ],
)
def test_odd_sizes_and_other_tasks_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        resolve(read_config(None, [*TINY, "model.channels=1", "model.wavelets=1", *settings]))
    with pytest.raises(ValueError, match=r"halve axis 1, and size \(4, 5\) is odd"):
        coefficients(torch.zeros(1, 1, 4, 5), (2, 2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["model.patch=4", "model.size=[8,9]"],
         "patch=4 divides each axis, and the data is 8 x 9: use data of 8 x 8, or a smaller patch"),
        (["model.patch=2", "model.wavelets=1", "model.size=[8,8]"], "use one of them"),
        (["model.patch=2", "model.size=[8,8]", "task=classification"], "use model.patch=1"),
        (["model.patch=3", "model.size=[8,8]"], "model.patch"),
    ],
)  # fmt: skip
def test_patches_that_do_not_fit_are_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        resolve(read_config(None, [*TINY, "model.channels=1", *settings]))


def test_a_network_of_patches_has_fewer_positions_and_takes_low_resolutions():
    stated = [*TINY, "model.channels=1", "model.size=[16,16]", "diffusion.self_condition=true"]
    flops = {p: count_flops(resolve(read_config(None, [*stated, f"model.patch={p}"])))
             for p in (1, 2, 4)}  # fmt: skip
    # Quarters of the positions; the first and the last layer have more channels.
    assert flops[2] < 0.5 * flops[1]
    assert flops[4] < 0.5 * flops[2]
    larger = [*TINY, "model.channels=1", "model.size=[16,16]", "model.patch=2", "scale=2",
              "task=super_resolution", "model.layers=magnitude_preserving"]  # fmt: skip
    network = build_network(resolve(read_config(None, larger)))
    x, low_res = torch.randn(2, 1, 16, 16), torch.zeros(2, 1, 8, 8)
    assert network(x, torch.zeros(2), low_res=low_res).shape == (2, 2, 16, 16)


def test_a_run_with_wavelets_and_levels_trains_draws_and_is_measured(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (24, 8, 8, 1)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", arr_0=x)
    run = iddpm.train(
        tmp_path / "x.npz",
        out=tmp_path / "run",
        settings=[*TINY, "training.steps=2", "model.wavelets=1", "diffusion.num_steps=20",
                  "preset=likelihood", "data.layout=NHWC", "data.held_out=0.2"],
        reporter=SilentReporter(),
    )  # fmt: skip
    assert run.sample(2, steps=3).shape == (2, 1, 8, 8)
    found = iddpm.likelihood(run, method="continuous", samples_per_item=4)
    assert found.total.mean == pytest.approx(8, abs=1)  # uniform levels


def test_super_resolution_with_wavelets_trains_and_upscales_tiles(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (24, 8, 8)).astype(np.uint8)
    run = iddpm.train(
        x,
        out=tmp_path / "run",
        settings=[*TINY, "training.steps=2", "model.wavelets=1", "task=super_resolution",
                  "scale=2", "model.circular=[true,false]", "data.layout=NHW"],
        reporter=SilentReporter(),
    )  # fmt: skip
    assert build_network(run.config).network.in_channels == 2 * 4
    low_res = normal(1, 1, 6, 10, dtype=torch.float32).clamp(-1, 1)
    assert run.upscale(low_res, steps=2).shape == (1, 1, 12, 20)
