"""Self-conditioning (Chen et al. 2022): a network that receives its earlier estimate of x0."""

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, losses
from iddpm.sampling import classifier_free, clip_x0, sample, trajectory
from tests.sampling.test_zero_terminal import SAMPLERS, build_sampler, spaced

WHOLE = cosine(40)


class Told(torch.nn.Module):
    """Predicts v from x_t and the estimate, and keeps the estimates."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([0.3, 0.5], dtype=torch.float64))
        self.estimates = []

    def forward(self, x, shown, y=None):
        x_t, known = x.chunk(2, dim=1)
        self.estimates.append(known.detach().clone())
        return torch.sin(self.weight[0] * x_t + self.weight[1] * known)


def make(**options):
    network = Told()
    diffusion = GaussianDiffusion(WHOLE, "fixed_small")
    return network, Denoiser(network, diffusion, "v", self_condition=True, **options)


def batch():
    generator = torch.Generator().manual_seed(0)
    x0 = torch.rand(4, 2, 5, dtype=torch.float64, generator=generator) * 2 - 1
    noise = torch.randn(4, 2, 5, dtype=torch.float64, generator=generator)
    return x0, torch.tensor([0, 10, 20, 39]), noise


def test_the_network_receives_zeros_or_the_clamped_estimate():
    network, denoiser = make()
    x0, t, noise = batch()
    level = WHOLE.at(t)
    denoiser(noise, level)
    denoiser(noise, level, estimate=3 * x0)
    assert torch.equal(network.estimates[0], torch.zeros_like(x0))
    assert torch.equal(network.estimates[1], (3 * x0).clamp(-1, 1))
    plain = Denoiser(lambda x, shown: x, GaussianDiffusion(WHOLE, "fixed_small"), "v")
    assert torch.equal(plain(noise, level).x0, plain(noise, level, estimate=x0).x0)


@pytest.mark.parametrize("loss", [losses.simple, losses.vlb])
def test_a_loss_conditions_on_a_first_estimate_without_a_gradient(loss):
    network, denoiser = make()
    x0, t, noise = batch()
    level, x_t = WHOLE.at(t), denoiser.diffusion.q_sample(x0, t, noise)
    ours = loss(denoiser, x0, t, noise, own_estimate=True).loss.sum()
    with torch.no_grad():
        first = denoiser(x_t, level).x0
    by_hand = loss(denoiser, x0, t, noise, estimate=first).loss.sum()
    assert torch.equal(ours, by_hand)
    (a,) = torch.autograd.grad(ours, network.weight)
    (b,) = torch.autograd.grad(by_hand, network.weight)
    assert torch.equal(a, b)
    without = loss(denoiser, x0, t, noise).loss.sum()
    assert not torch.equal(ours, without)


def test_the_gradient_survives_a_first_pass_in_bfloat16():
    torch.manual_seed(0)
    network = torch.nn.Conv1d(4, 2, 3, padding=1)
    denoiser = Denoiser(
        lambda x, shown: network(x),
        GaussianDiffusion(WHOLE, "fixed_small"),
        "v",
        self_condition=True,
    )
    x0, t, noise = batch()
    gradients = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            loss = losses.simple(denoiser, x0.float(), t, noise.float(), own_estimate=True).loss
        gradients.append(torch.autograd.grad(loss.mean(), network.weight)[0])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0.05, atol=0.01)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_passes_the_last_estimate_on(name):
    network, denoiser = make()
    schedule = spaced(WHOLE, name, 6)
    x_T = torch.randn(2, 2, 5, dtype=torch.float64)
    states = list(
        trajectory(build_sampler(name), clip_x0(denoiser), schedule, x_T, self_condition=True)
    )
    estimates = network.estimates
    if name == "heun":  # both evaluations of a step receive the same one
        assert all(
            torch.equal(estimates[k], estimates[k + 1]) for k in range(0, len(estimates) - 1, 2)
        )
        estimates = estimates[::2]
    assert len(estimates) == len(states)
    assert torch.equal(estimates[0], torch.zeros_like(x_T))
    for known, before in zip(estimates[1:], states[:-1], strict=True):
        assert torch.equal(known, before.x0)
    network.estimates.clear()
    sample(build_sampler(name), denoiser, schedule, x_T)
    assert not any(bool(known.any()) for known in network.estimates), "off by default"


def test_guidance_tells_both_halves_the_guided_estimate():
    network, denoiser = make()
    denoise = classifier_free(denoiser, 2.0)
    schedule, x_T = spaced(WHOLE, "ddim", 3), torch.randn(2, 2, 5, dtype=torch.float64)
    y = torch.tensor([0, 1])
    states = list(
        trajectory(build_sampler("ddim"), denoise, schedule, x_T, self_condition=True, y=y)
    )
    for known, before in zip(network.estimates[1:], states[:-1], strict=True):
        assert torch.equal(known, torch.cat([before.x0, before.x0]).clamp(-1, 1))
