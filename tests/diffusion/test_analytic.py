import pytest
import torch

from iddpm.diffusion import (
    AnalyticVariance,
    GaussianDiffusion,
    Prediction,
    cosine,
    linear,
    zero_terminal_snr,
)
from iddpm.diffusion.analytic import LEAST_SHARE, steadied_power
from tests.exact import eps_power


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize("s", [0.1, 0.5, 1.0])
def test_gaussian_data_has_this_variance(make, s):
    whole = make(100)
    ours = AnalyticVariance(whole, eps_power(s, whole)).of_x0
    alpha_bar = whole.alpha_bar
    exact = s**2 * (1 - alpha_bar) / (alpha_bar * s**2 + 1 - alpha_bar)
    assert torch.allclose(ours, exact, rtol=1e-9)


def test_the_step_variance_is_the_papers_formula():
    """Bao et al. 2022, theorem 1, with lambda of DDPM and written in their symbols."""
    whole = linear(1000)
    power = torch.linspace(0.9, 0.999, 1000, dtype=torch.float64)
    power[300:] = 1 - (1 - power[300:]) * whole.alpha_bar[300:] ** 2
    table = AnalyticVariance(whole, power)
    schedule = whole.respace([0, 50, 300, 700])
    x = torch.zeros(3, 1, 1, dtype=torch.float64)
    t = torch.tensor([1, 2, 3])
    prediction = table.attach(Prediction(x, x), x, schedule.at(t))
    ours = GaussianDiffusion(schedule, "analytic").log_variance(prediction, x, t).exp().flatten()
    now, before = schedule.alpha_bar[1:], schedule.alpha_bar[:-1]
    alpha, beta_bar, beta_bar_before = now / before, 1 - now, 1 - before
    lambda_squared = beta_bar_before / beta_bar * (1 - alpha)
    gamma = power[[50, 300, 700]] / beta_bar
    spread = (beta_bar / alpha).sqrt() - (beta_bar_before - lambda_squared).sqrt()
    assert torch.allclose(ours, lambda_squared + spread**2 * (1 - beta_bar * gamma), rtol=1e-9)


def test_it_is_clipped_as_data_in_the_unit_box_allows():
    whole = linear(1000)
    above = AnalyticVariance(whole, torch.full((1000,), 1.5)).of_x0
    none = AnalyticVariance(whole, torch.zeros(1000)).of_x0
    alpha_bar = whole.alpha_bar
    assert float(above[1:].max()) <= 1e-12
    assert float(above[0]) == pytest.approx(LEAST_SHARE * float((1 - alpha_bar[0]) / alpha_bar[0]))
    assert torch.allclose(none, ((1 - alpha_bar) / alpha_bar).clamp(max=1))
    with pytest.raises(ValueError, match="1000 steps needs as many values, not"):
        AnalyticVariance(whole, torch.ones(10))


def test_between_steps_it_is_interpolated():
    whole = cosine(100)
    table = AnalyticVariance(whole, eps_power(0.5, whole))
    steps = [0, 7, 7.5, 8, 99]
    ours = table.at(whole.respace(steps).alpha_bar)
    assert torch.allclose(ours[[0, 1, 3, 4]], table.of_x0[[0, 7, 8, 99]], rtol=1e-12)
    assert float(ours[2]) == pytest.approx(float(table.of_x0[7:9].mean()), rel=1e-9)
    assert (
        float(AnalyticVariance(linear(30).respace([4]), torch.tensor([0.4])).at(torch.ones(1))) > 0
    )


def test_the_power_of_an_estimate_is_steadied_by_that_of_the_noise():
    """Unbiased but for 4 / n, and with a third of the deviation where the estimate is good."""
    generator = torch.Generator().manual_seed(0)
    noise, other = torch.randn(2, 200, 5000, dtype=torch.float64, generator=generator)
    power = 0.95
    estimate = power * noise + (power - power**2) ** 0.5 * other
    plain = estimate.square().mean(dim=1)
    ours = steadied_power(plain, noise.square().mean(dim=1))
    assert float(ours.mean()) == pytest.approx(power, abs=4 / 5000 + 4 * float(ours.std()) / 14)
    assert float(ours.std()) < 0.4 * float(plain.std())


def test_pure_noise_says_nothing_of_the_data():
    whole = zero_terminal_snr(cosine(100))
    table = AnalyticVariance(whole, eps_power(0.5, whole))
    assert float(table.of_x0[-1]) == 1
    exact = 0.25 * (1 - whole.alpha_bar) / (whole.alpha_bar * 0.25 + 1 - whole.alpha_bar)
    assert torch.allclose(table.of_x0[:-1], exact[:-1], rtol=1e-6)
    ours = table.at(whole.respace([0, 50.5, 98, 99]).alpha_bar)
    assert ours[[0, 2, 3]].tolist() == pytest.approx(table.of_x0[[0, 98, 99]].tolist())
