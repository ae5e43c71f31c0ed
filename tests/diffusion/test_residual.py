"""Data as a known part and a residual: the likelihood stays that of the data."""

import math

import pytest
import torch

from iddpm.diffusion import Denoiser, Gaussian, GaussianDiffusion, Prediction, bits_per_dim, cosine
from iddpm.diffusion.residual import Residual
from iddpm.diffusion.variational_bound import (
    discretized_gaussian_log_likelihood,
    gaussian_log_density,
    log_likelihood,
)
from iddpm.sampling import clip_x0, threshold_x0


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some(count=1, channels=2, size=3):
    known = 0.3 * drawn(count, channels, size, seed=1)
    return Residual(known, torch.tensor([0.05, 0.4], dtype=torch.float64)[:channels])


def test_the_density_of_the_data_has_the_determinant_of_the_change_of_variables():
    """Measured by finite differences of the way back from residuals to data."""
    residual, r = some(), drawn(1, 2, 3)
    step, count = 1e-4, r.numel()
    columns = []
    for k in range(count):
        moved = torch.zeros(count, dtype=torch.float64)
        moved[k] = step
        moved = moved.reshape(r.shape)
        columns.append((residual.decode(r + moved) - residual.decode(r - moved)).flatten())
    log_det = torch.stack(columns).div(2 * step).slogdet().logabsdet
    p = Gaussian(drawn(1, 2, 3, seed=2), drawn(1, 2, 3, seed=3))
    of_data = log_likelihood(r, p, None, residual).sum()
    assert float(of_data) == pytest.approx(float(gaussian_log_density(r, p).sum() - log_det))
    assert torch.allclose(residual.encode(residual.decode(r)), r)


def test_the_bound_on_a_gaussian_residual_is_the_entropy_of_the_data():
    """The best estimate is known, and the entropy of the data is that of its spread."""
    steps, count = 200, 4000
    diffusion = GaussianDiffusion(cosine(steps), "fixed_large")
    r = drawn(count, 2, 3).float()
    known = some(count)
    residual = Residual(known.interpolated.float(), known.scale)

    def best(x_t, shown, **_):  # v of x0 = sqrt(alpha_bar) x_t is 0
        return torch.zeros_like(x_t)

    denoiser = Denoiser(best, diffusion, "v", residual_scale=residual.scale.tolist())
    data = residual.decode(r)
    found = bits_per_dim(
        diffusion, denoiser, residual.encode(data), clip=False, bits=None,
        interpolated=residual.interpolated,
    )  # fmt: skip
    spread = float(residual.scale.log().mean())
    entropy = 0.5 * math.log(2 * math.pi * math.e) + spread
    nats = math.log(2) * found.total
    # Step 0 borrows the variance of step 1, about twice its own: that costs a known amount.
    wide = diffusion.log_variance(best_prediction(r[:1]), r[:1], torch.tensor([0])).squeeze()
    ratio = float((1 - diffusion.schedule.alpha_bar[0]) / wide.exp())
    entropy += 0.5 * (ratio - 1 - math.log(ratio))
    error = float(nats.std()) / math.sqrt(count)
    assert abs(float(nats.mean()) - entropy) < 4 * error + 1e-3
    assert error < 0.02


def best_prediction(r):
    return Prediction(r, r)


def test_levels_have_probabilities_of_sum_one_whatever_the_interpolation():
    bits, count = 4, 16
    levels = torch.arange(count, dtype=torch.float64) / ((count - 1) / 2) - 1
    residual = some(count)
    alike = Residual(residual.interpolated[:1].expand(count, -1, -1), residual.scale)
    x = levels.reshape(-1, 1, 1).expand(count, 2, 3)
    p = Gaussian(drawn(1, 2, 3, seed=2).expand(count, -1, -1), torch.zeros(count, 2, 3).double())
    total = log_likelihood(alike.encode(x), p, bits, alike).exp().sum(dim=0)
    assert torch.allclose(total, torch.ones_like(total))


def test_all_levels_of_16_bits_are_exact_in_float32():
    """Against the decoder of the data itself, from its exact levels."""
    bits = 16
    exact = torch.arange(2**bits, dtype=torch.float64).reshape(1, 1, -1) / (2**bits - 1) * 2 - 1
    known = (exact + 0.01 * drawn(1, 1, 2**bits)).float()
    residual = Residual(known, torch.tensor([0.01], dtype=torch.float64))
    r = residual.encode(exact.float())
    mean = r + 0.002 * drawn(1, 1, 2**bits, seed=4).float()
    log_variance = torch.full_like(r, 2 * math.log(0.002))  # noise of two thirds of a level
    found = log_likelihood(r, Gaussian(mean, log_variance), bits, residual)
    of_data = Gaussian(
        known.double() + 0.01 * mean.double(), log_variance.double() + 2 * math.log(0.01)
    )
    wanted = discretized_gaussian_log_likelihood(exact, of_data, bits)
    assert float((found.double() - wanted).abs().max()) < 1e-4


@pytest.mark.parametrize("around", [clip_x0, lambda d: threshold_x0(d, 0.5)])
def test_what_is_kept_within_the_range_is_the_data(around):
    diffusion = GaussianDiffusion(cosine(50), "fixed_small")
    residual = some(4)
    denoiser = Denoiser(
        lambda x, shown: 30 * x, diffusion, "x0", residual_scale=residual.scale.tolist()
    )
    x_t, level = drawn(4, 2, 3), diffusion.schedule.at(torch.tensor([5, 10, 20, 40]))
    raw = denoiser(x_t, level, interpolated=residual.interpolated)
    kept = around(denoiser)(x_t, level, interpolated=residual.interpolated)
    data = residual.decode(kept.x0)
    assert float(residual.decode(raw.x0).abs().max()) > 1.5
    assert float(data.abs().max()) < 1 + 1e-9
    assert float(kept.x0.abs().max()) > 2  # no residual is kept within [-1, 1]
    if around is clip_x0:
        assert torch.allclose(data, residual.decode(raw.x0).clamp(-1, 1))


def test_a_residual_without_what_it_is_one_of_is_refused():
    diffusion = GaussianDiffusion(cosine(50), "fixed_small")
    denoiser = Denoiser(lambda x, shown: x, diffusion, "v", residual_scale=[1.0])
    x_t = drawn(1, 1, 4)
    with pytest.raises(ValueError, match="call it with interpolated"):
        denoiser(x_t, diffusion.schedule.at(torch.tensor([3])))
    with pytest.raises(ValueError, match="a residual has none"):
        Denoiser(lambda x, shown: x, diffusion, "categorical", residual_scale=[1.0])
