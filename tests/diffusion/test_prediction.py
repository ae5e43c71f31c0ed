import pytest
import torch

from iddpm.diffusion import (
    Denoiser,
    GaussianDiffusion,
    cosine,
    from_edm,
    from_eps,
    from_previous,
    from_v,
    from_x0,
    linear,
    losses,
    zero_terminal_snr,
)
from iddpm.diffusion.prediction import edm_input_scale, eps_given_x0, in_space, target

SCHEDULES = {
    "linear": linear(1000),
    "cosine": cosine(4000),
    "respaced": cosine(4000).respace(range(19, 4000, 20)),
    "one step": linear(1000).respace([700]),
}
READ = {
    "eps": from_eps,
    "x0": from_x0,
    "v": from_v,
    "edm": from_edm,
    "previous": from_previous,
}


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


@pytest.mark.parametrize("sigma_data", [0.5, 0.2, 1.7])
def test_edm_is_the_papers_preconditioning_of_the_rescaled_input(sigma_data):
    """Karras et al. 2022, equation 7 with the right column of table 1, for x = x_t / sqrt(a)."""
    _, _, x_t, level, _ = truth(SCHEDULES["linear"])
    alpha_bar = level.alpha_bar.reshape(-1, 1, 1)
    sigma, x = ((1 - alpha_bar) / alpha_bar).sqrt(), x_t / alpha_bar.sqrt()
    total = (sigma**2 + sigma_data**2).sqrt()
    c_skip, c_out, c_in = sigma_data**2 / total**2, sigma * sigma_data / total, 1 / total
    seen = []

    def network(x, shown):
        seen.append(x)
        return torch.sin(3 * x)

    diffusion = GaussianDiffusion(SCHEDULES["linear"], "fixed_small")
    ours = Denoiser(network, diffusion, "edm", sigma_data=sigma_data)(x_t, level)
    assert torch.allclose(seen[0], c_in * x, rtol=1e-10)
    expected = c_skip * x + c_out * torch.sin(3 * c_in * x)
    assert torch.allclose(ours.x0, expected, rtol=1e-9, atol=1e-10)
    again = alpha_bar.sqrt() * ours.x0 + (1 - alpha_bar).sqrt() * ours.eps
    assert torch.allclose(again, x_t, rtol=1e-10)


def test_edm_with_a_deviation_of_1_is_minus_v():
    schedule = zero_terminal_snr(cosine(100))
    x0, eps, x_t, level, _ = truth(schedule)
    v = target("v", x0, eps, x_t, level)
    assert torch.allclose(target("edm", x0, eps, x_t, level, 1.0), -v, atol=1e-14)
    as_v, as_edm = from_v(x_t, v, level), from_edm(x_t, -v, level, 1.0)
    assert torch.allclose(as_v.x0, as_edm.x0, atol=1e-14)
    assert torch.allclose(as_v.eps, as_edm.eps, atol=1e-14)
    assert torch.allclose(edm_input_scale(x_t, level, 1.0), torch.ones(()).double(), atol=1e-15)


def test_the_loss_of_edm_has_the_papers_weight_and_the_networks_input_variance_1():
    """lambda(sigma) = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 on the error of x0."""
    schedule, sigma_data = SCHEDULES["linear"], 0.5
    *_, level, t = truth(schedule)
    generator = torch.Generator().manual_seed(3)
    x0 = sigma_data * torch.randn(32, 8, 4096, dtype=torch.float64, generator=generator)
    eps = torch.randn(x0.shape, dtype=torch.float64, generator=generator)
    seen = []

    def network(x, shown):
        seen.append(x)
        return torch.zeros_like(x)

    denoiser = Denoiser(network, GaussianDiffusion(schedule, "fixed_small"), "edm")
    loss = losses.simple(denoiser, x0, t, eps).loss
    assert torch.allclose(seen[0].var((1, 2)), torch.ones(32).double(), rtol=0.05)
    # F = 0 leaves an error of variance 1 at every noise level: that is what the weight is for.
    assert torch.allclose(loss, torch.ones(32).double(), rtol=0.05)
    sigma = ((1 - level.alpha_bar) / level.alpha_bar).sqrt()
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    in_x0 = losses.simple(denoiser, x0, t, eps, space="x0").loss
    assert torch.allclose(loss, weight * in_x0, rtol=1e-8)


@pytest.mark.parametrize("predicts", ["v", "x0", "edm"])
def test_predictions_are_exact_where_the_signal_is_gone(predicts):
    schedule = zero_terminal_snr(linear(100))
    x0, eps, x_t, level, _ = truth(schedule)
    assert float(level.alpha_bar[-1]) == 0
    prediction = READ[predicts](x_t, target(predicts, x0, eps, x_t, level), level)
    assert (prediction.x0 - x0)[-1].abs().max() < 1e-12
    assert torch.equal(prediction.eps[-1], x_t[-1])
    clipped = prediction.with_x0(prediction.x0.clamp(-0.1, 0.1), x_t, level)
    assert torch.equal(clipped.eps[-1], x_t[-1])
