import pytest
import torch

from iddpm.diffusion import (
    Denoiser,
    GaussianDiffusion,
    cosine,
    from_eps,
    from_previous,
    from_v,
    from_x0,
    linear,
)
from iddpm.diffusion.prediction import eps_given_x0, in_space, target

SCHEDULES = {
    "linear": linear(1000),
    "cosine": cosine(4000),
    "respaced": cosine(4000).respace(range(19, 4000, 20)),
    "one step": linear(1000).respace([700]),
}
READ = {"eps": from_eps, "x0": from_x0, "v": from_v, "previous": from_previous}


def truth(schedule):
    """x0, eps, x_t and level at the first, the last and 30 steps between."""
    generator = torch.Generator().manual_seed(0)
    t = torch.linspace(0, len(schedule) - 1, 32).long()
    x0 = torch.rand(32, 3, 5, dtype=torch.float64, generator=generator) * 2 - 1
    eps = torch.randn(32, 3, 5, dtype=torch.float64, generator=generator)
    level = schedule.at(t)
    alpha_bar = schedule.alpha_bar[t].reshape(-1, 1, 1)
    return x0, eps, alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps, level, t


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predicts", READ)
def test_a_perfect_output_gives_back_the_truth(name, predicts):
    schedule = SCHEDULES[name]
    x0, eps, x_t, level, _ = truth(schedule)
    prediction = READ[predicts](x_t, target(predicts, x0, eps, x_t, level), level)
    # What divides by a small root loses that many digits, whatever the code: compare the estimate
    # in the units in which it enters x_t.
    alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
    assert ((prediction.x0 - x0) * alpha_bar.sqrt()).abs().max() < 1e-10
    assert ((prediction.eps - eps) * (1 - alpha_bar).sqrt()).abs().max() < 1e-10
    easy = (level.alpha_bar > 1e-4) & (level.alpha_bar < 1 - 1e-4)
    assert (prediction.x0 - x0)[easy].abs().max() < 1e-10
    assert (prediction.eps - eps)[easy].abs().max() < 1e-10
    assert (prediction.mean is not None) == (predicts == "previous")


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("predicts", READ)
def test_every_space_is_reached_from_every_prediction(name, predicts):
    x0, eps, x_t, level, _ = truth(SCHEDULES[name])
    prediction = READ[predicts](x_t, target(predicts, x0, eps, x_t, level), level)
    easy = (level.alpha_bar > 1e-4) & (level.alpha_bar < 1 - 1e-4)
    for space in READ:
        difference = in_space(space, prediction, x_t, level) - target(space, x0, eps, x_t, level)
        assert difference[easy].abs().max() < 1e-10, space


def test_v_is_its_definition():
    x0, eps, x_t, level, _ = truth(SCHEDULES["linear"])
    alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
    v = target("v", x0, eps, x_t, level)
    assert torch.allclose(v, alpha_bar.sqrt() * eps - (1 - alpha_bar).sqrt() * x0, atol=1e-14)


def test_another_x0_brings_its_eps_and_leaves_the_mean():
    schedule = SCHEDULES["linear"]
    x0, eps, x_t, level, t = truth(schedule)
    mean = target("previous", x0, eps, x_t, level)
    prediction = from_previous(x_t, mean, level)
    clipped = prediction.with_x0(prediction.x0.clamp(-0.1, 0.1), x_t, level)
    assert clipped.x0.abs().max() <= 0.1
    alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
    again = alpha_bar.sqrt() * clipped.x0 + (1 - alpha_bar).sqrt() * clipped.eps
    assert torch.allclose(again, x_t, atol=1e-12)
    assert torch.equal(clipped.mean, mean)
    # The reverse step prefers that mean; without one it follows the clipped x0.
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    assert torch.equal(diffusion.p_posterior(clipped, x_t, t).mean, mean)
    plain = from_x0(x_t, clipped.x0, level)
    expected = diffusion.q_posterior(clipped.x0, x_t, t).mean
    assert torch.allclose(diffusion.p_posterior(plain, x_t, t).mean, expected)
    assert (expected - mean).abs().max() > 1e-3


def test_detaching_the_mean_leaves_the_variance():
    _, _, x_t, level, _ = truth(SCHEDULES["cosine"])
    diffusion = GaussianDiffusion(SCHEDULES["cosine"], "learned_range")
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    for predicts in READ:
        denoiser = Denoiser(lambda x, s: torch.cat([x, x], 1) * weight, diffusion, predicts)
        prediction = denoiser(x_t, level)
        assert prediction.x0.requires_grad
        detached = prediction.detach_mean()
        assert not detached.x0.requires_grad
        assert not detached.eps.requires_grad
        assert detached.mean is None or not detached.mean.requires_grad
        assert detached.variance.requires_grad
        assert torch.equal(detached.x0, prediction.x0)
        assert detached.variance_kind == "learned_range"


def test_eps_given_x0_is_exact_in_float32_inputs():
    x0, eps, x_t, level, _ = truth(SCHEDULES["linear"])
    ours = eps_given_x0(x_t.float(), x0.float(), level)
    assert ours.dtype == torch.float32
    noise = (1 - level.alpha_bar).sqrt().reshape(-1, 1, 1)
    assert ((ours - eps) * noise).abs().max() < 1e-5
