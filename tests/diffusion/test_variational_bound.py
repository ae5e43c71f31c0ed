import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from iddpm.data.levels import to_model_range
from iddpm.diffusion import (
    Denoiser,
    Gaussian,
    GaussianDiffusion,
    Prediction,
    bits_per_dim,
    cosine,
    linear,
    log_snr,
)
from iddpm.diffusion.variational_bound import (
    discretized_gaussian_log_likelihood,
    gaussian_kl,
    gaussian_log_density,
    log_ndtr,
    log_normal_interval,
    prior_term,
    vlb_term,
)


def double(*values):
    return torch.tensor(values, dtype=torch.float64)


def exact_log_likelihood(x, mean, log_variance, bits):
    """The same definition in 60 digits, for floats."""
    with mpmath.workdps(60):
        half = mpmath.mpf(1) / (2**bits - 1)
        std = mpmath.exp(mpmath.mpf(log_variance) / 2)
        lower = (mpmath.mpf(x) - mpmath.mpf(mean) - half) / std
        upper = (mpmath.mpf(x) - mpmath.mpf(mean) + half) / std

        def above(z):
            return mpmath.erfc(z / mpmath.sqrt(2)) / 2

        if x > 1 - half:
            return mpmath.log(above(lower))
        if x < -1 + half:
            return mpmath.log(above(-upper))
        if lower + upper < 0:
            lower, upper = -upper, -lower
        return mpmath.log(above(lower) - above(upper))


def error_against_exact(ours, exact):
    """Error in nats where the value is small, relative where it is large."""
    with mpmath.workdps(60):
        return float(abs(mpmath.mpf(float(ours)) - exact) / max(1, abs(exact)))


def test_kl_is_torchs():
    generator = torch.Generator().manual_seed(0)
    mean_p, log_p, mean_q, log_q = torch.randn(4, 100, dtype=torch.float64, generator=generator) * 3
    ours = gaussian_kl(Gaussian(mean_p, log_p), Gaussian(mean_q, log_q))
    p, q = Normal(mean_p, torch.exp(log_p / 2)), Normal(mean_q, torch.exp(log_q / 2))
    assert torch.allclose(ours, kl_divergence(p, q), rtol=1e-10)
    assert bool((ours > 0).all())


def test_kl_of_nearly_equal_gaussians_does_not_cancel():
    """expm1(d) - d is d**2 / 2 when d is small; exp(d) - 1 - d would leave nothing in float32."""
    zero, small = torch.zeros(1), torch.full((1,), 1e-3)
    ours = gaussian_kl(Gaussian(zero, small), Gaussian(zero, zero))
    assert float(ours) == pytest.approx(0.25e-6, rel=1e-3)
    assert float(gaussian_kl(Gaussian(small, small), Gaussian(small, small))) == 0


def test_density_is_torchs():
    x, mean, log_variance = torch.randn(3, 50, dtype=torch.float64)
    ours = gaussian_log_density(x, Gaussian(mean, log_variance))
    assert torch.allclose(ours, Normal(mean, torch.exp(log_variance / 2)).log_prob(x))


@pytest.mark.parametrize(("bits", "tolerance"), [(1, 1e-13), (8, 1e-12), (12, 1e-11), (16, 1e-10)])
def test_the_levels_share_all_of_the_probability(bits, tolerance):
    levels = torch.linspace(-1, 1, 2**bits, dtype=torch.float64)
    for mean, log_variance in [(0.0, 0.0), (0.31, -9.0), (-1.0, -12.0), (2.5, -3.0), (0.1, 6.0)]:
        p = Gaussian(torch.full_like(levels, mean), torch.full_like(levels, log_variance))
        total = discretized_gaussian_log_likelihood(levels, p, bits).exp().sum()
        assert abs(float(total) - 1) < tolerance, (mean, log_variance)


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("log_variance", [-60.0, -20.0, -9.0, -3.0, 0.0, 5.0, 20.0, 40.0, 100.0])
def test_it_agrees_with_sixty_digits(bits, log_variance):
    std = math.exp(log_variance / 2)
    top = 2**bits - 1
    for level in (0, 1, top // 3, top - 1, top):
        x = -1 + 2 * level / top
        for z in (0.0, 0.5, -3.0, 8.0, -37.0, 200.0, -1e3, 1e3):
            mean = x - z * std
            ours = discretized_gaussian_log_likelihood(
                double(x), Gaussian(double(mean), double(log_variance)), bits
            )
            exact = exact_log_likelihood(x, mean, log_variance, bits)
            assert error_against_exact(ours, exact) < 1e-9, (level, z, float(ours), exact)


@pytest.mark.parametrize("half_width", [1e-7, 9.9e-6, 1.01e-5, 1e-3])
@pytest.mark.parametrize("center", [0.0, -0.3, 5.0, -990.0])
def test_narrow_intervals_are_exact_in_nats(half_width, center):
    """On both sides of where the density is expanded; the error left is float64's own."""
    ours = log_normal_interval(double(center), double(half_width))
    with mpmath.workdps(60):
        low, high = (mpmath.mpf(abs(center)) + side * mpmath.mpf(half_width) for side in (-1, 1))
        root = mpmath.sqrt(2)
        exact = mpmath.log((mpmath.erfc(low / root) - mpmath.erfc(high / root)) / 2)
        error = float(abs(mpmath.mpf(float(ours)) - exact))
    assert error < 1e-10 + 1e-14 * center**2


def test_float32_inputs_are_computed_in_float64():
    """At 5 standard deviations Phi(b) - Phi(a) has 6 digits in float64 and none in float32."""
    for x, mean, log_variance in [(0.2, -0.3, -4.6), (-1.0, 0.9, -4.0), (0.5, 0.5, -1.0)]:
        level = round((x + 1) / 2 * 255)
        single = torch.tensor([-1 + 2 * level / 255]), torch.tensor([mean])
        single += (torch.tensor([log_variance]),)
        ours = discretized_gaussian_log_likelihood(single[0], Gaussian(single[1], single[2]))
        assert ours.dtype == torch.float32
        exact = exact_log_likelihood(*(float(value) for value in single), 8)
        assert error_against_exact(ours, exact) < 1e-7


def test_sixteen_bits_are_exact_from_float32_data():
    """To a millionth of a nat, at the ends too; float32 is wrong by 1e-3 and more."""
    top = 2**16 - 1
    wrong = {}
    for log_variance in (-26.0, -22.0, -14.0, -9.2, -4.0, 0.0, 5.0):
        std = math.exp(log_variance / 2)
        for level in (0, 1, top // 3, 40_000, top - 1, top):
            x = to_model_range(np.array([level], np.uint16), 16)
            assert x.dtype == torch.float32
            for z in (0.0, 0.5, -1.0, 2.0, -3.0, 5.0):
                mean = torch.tensor([-1 + 2 * level / top - z * std])
                p = Gaussian(mean, torch.tensor([log_variance]))
                ours = float(discretized_gaussian_log_likelihood(x, p, 16))
                exact = exact_log_likelihood(
                    -1 + 2 * level / top, float(mean), float(p.log_variance), 16
                )
                assert error_against_exact(ours, exact) < 1e-6, (log_variance, level, z)
                if abs(z) <= 1 and 0 < level < top:
                    ends = [x - mean + side / top for side in (1, -1)]
                    upper, lower = (0.5 * torch.erfc(-end / std / math.sqrt(2)) for end in ends)
                    single = abs(float(torch.log(upper - lower)) - float(exact))
                    wrong[log_variance] = max(wrong.get(log_variance, 0), single)
    assert 1e-3 < wrong[0.0] < 1e-2 < wrong[5.0]


def test_the_published_approximation_is_wrong_by_percents():
    """Why ours is not theirs: a tanh in place of Phi, and a floor at 1e-12."""

    def published(x, mean, log_variance):
        def cdf(z):
            return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

        inverse_std = torch.exp(-0.5 * log_variance)
        upper, lower = (x - mean + 1 / 255) * inverse_std, (x - mean - 1 / 255) * inverse_std
        return torch.log((cdf(upper) - cdf(lower)).clamp(min=1e-12))

    x, log_variance = torch.tensor([1 / 255]), torch.tensor([-6.0])
    std = math.exp(-3)
    wrong = {}
    for z in (0.0, 3.0, 4.0, 6.0, 12.0):
        mean = x - z * std
        ours = discretized_gaussian_log_likelihood(x, Gaussian(mean, log_variance))
        wrong[z] = float(published(x, mean, log_variance) / ours - 1)
    assert abs(wrong[0.0]) < 1e-3
    assert 0.01 < abs(wrong[4.0]) < 0.2
    assert wrong[12.0] < -0.5  # log 1e-12 = -27.6 where -75 is true


@pytest.mark.parametrize("bits", [1, 8, 16])
def test_gradients_are_those_of_the_function(bits):
    top = 2**bits - 1
    x = torch.tensor([[-1 + 2 * level / top] for level in (0, top // 3, top // 2 + 1, top)])
    x = x.double().expand(4, 6).contiguous()
    mean = double(-3.0, -0.4, 0.0, 0.3, 0.9, 2.0).expand(4, 6).clone().requires_grad_()
    log_variance = double(-4.0, -2.0, 0.0, 1.0, -5.0, 3.0).expand(4, 6).clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda m, v: discretized_gaussian_log_likelihood(x, Gaussian(m, v), bits),
        (mean, log_variance),
        eps=1e-6,
        atol=1e-5,
    )


def test_gradients_on_both_sides_of_each_branch_agree():
    """Narrow bins and far tails are computed differently: no jump where the formula changes."""
    for log_variance in (11.5, 11.9, 12.0, 12.1, 20.0):  # half-bin 1e-5 standard deviations at 12
        mean, v = double(0.7).requires_grad_(), double(log_variance).requires_grad_()
        x = double(1 / 255)
        discretized_gaussian_log_likelihood(x, Gaussian(mean, v)).sum().backward()
        assert float(v.grad) == pytest.approx(-0.5, abs=1e-4)
        assert float(mean.grad) == pytest.approx(
            (1 / 255 - 0.7) * math.exp(-log_variance), rel=1e-3, abs=1e-9
        )
    for z in (-9.999, -10.001, -1e3, -1e6, -1e12):
        at = double(z).requires_grad_()
        value = log_ndtr(at)
        value.sum().backward()
        with mpmath.workdps(60):
            exact = mpmath.log(mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2)
            slope = mpmath.npdf(z) / (mpmath.erfc(-mpmath.mpf(z) / mpmath.sqrt(2)) / 2)
        assert float(value.detach()) == pytest.approx(float(exact), rel=1e-13)
        assert float(at.grad) == pytest.approx(float(slope), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_everywhere(dtype):
    axis = torch.tensor([-1e3, -3, -1, -0.999, 0, 0.2, 1, 7, 1e3], dtype=dtype)
    levels = torch.tensor([0, 1, 100, 254, 255], dtype=dtype) * (2 / 255) - 1
    spread = torch.tensor([-60, -44, -20, -9, 0, 10, 20, 60], dtype=dtype)
    x, mean, log_variance = (
        part.clone() for part in torch.meshgrid(levels, axis, spread, indexing="ij")
    )
    mean.requires_grad_()
    log_variance.requires_grad_()
    log_p = discretized_gaussian_log_likelihood(x, Gaussian(mean, log_variance))
    log_p.sum().backward()
    assert bool(log_p.isfinite().all())
    assert bool((log_p <= 0).all())
    assert bool(mean.grad.isfinite().all())
    assert bool(log_variance.grad.isfinite().all())


# Gaussian data N(m, s**2) has a known denoiser, so the bound has a known value.

ROOT3 = math.sqrt(3)
NODES = double(-ROOT3, 0.0, ROOT3)
WEIGHTS = double(1 / 6, 2 / 3, 1 / 6)
"""Gauss-Hermite with three nodes: exact for the quadratic terms of the bound."""


def gaussian_denoiser(m, s, schedule, variance):
    """Return E[x0 | x_t] for x0 ~ N(m, s**2) and, if learned, the variance of x_{t-1} | x_t."""

    def denoise(x_t, level):
        alpha_bar, before = (
            value.reshape(-1, *[1] * (x_t.dim() - 1))
            for value in (level.alpha_bar, level.alpha_bar_prev)
        )
        total = alpha_bar * s**2 + 1 - alpha_bar
        x0 = m + alpha_bar.sqrt() * s**2 / total * (x_t - alpha_bar.sqrt() * m)
        eps = (x_t - alpha_bar.sqrt() * x0) / (1 - alpha_bar).sqrt()
        # x_{t-1} and x_t are jointly Gaussian; condition one on the other.
        alpha = alpha_bar / before
        total_before = before * s**2 + 1 - before
        true = (total_before - alpha * total_before**2 / total).log()
        raw = None
        if variance == "learned":
            raw = true.expand_as(x_t)
        if variance == "learned_range":
            at = torch.searchsorted(-schedule.alpha_bar, -level.alpha_bar)
            low = schedule.posterior_log_variance[at].reshape(true.shape)
            high = schedule.betas[at].log().reshape(true.shape)
            raw = (2 * (true - low) / (high - low) - 1).expand_as(x_t)
        return Prediction(x0, eps, raw, variance_kind=variance)

    return denoise


def expected_bound(m, s, schedule, variance):
    """E over data and noise of bits_per_dim, by quadrature: (total, prior, terms)."""
    data, noise = (part.flatten() for part in torch.meshgrid(NODES, NODES, indexing="ij"))
    weights = torch.outer(WEIGHTS, WEIGHTS).flatten()
    x0, eps = (m + s * data).reshape(9, 1, 1), noise.reshape(9, 1, 1)
    measured = bits_per_dim(
        GaussianDiffusion(schedule, variance),
        gaussian_denoiser(m, s, schedule, variance),
        x0,
        noise=lambda number: eps,
        clip=False,
        bits=None,
    )
    assert torch.allclose(measured.total, measured.prior + measured.vb.sum(1))
    return weights @ measured.total, weights @ measured.prior, weights @ measured.vb


SCHEDULES = {
    "linear": linear(200),
    "cosine": cosine(100),
    "respaced": linear(1000).respace(range(0, 1000, 40)),
    "two steps": cosine(1000).respace([300, 900]),
    "one step": cosine(1000).respace([600]),
    "log_snr": log_snr(80),
    "log_snr of 1 bit": log_snr(30, log_snr_max=2.2),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("m", "s"), [(0.0, 0.5), (0.3, 0.2), (-0.4, 1.0)])
@pytest.mark.parametrize("variance", ["learned", "learned_range"])
def test_with_the_true_reverse_process_the_bound_is_the_entropy(name, m, s, variance):
    """The only gap left is KL(q(x_T) || N(0, 1)), whatever the number of steps."""
    schedule = SCHEDULES[name]
    if variance == "learned_range" and name == "one step":
        return  # it has no range: both ends are its beta
    total, _, _ = expected_bound(m, s, schedule, variance)
    last = float(schedule.alpha_bar[-1])
    mean, spread = math.sqrt(last) * m, last * s**2 + 1 - last
    entropy = 0.5 * math.log(2 * math.pi * math.e * s**2)
    gap = 0.5 * (spread + mean**2 - 1 - math.log(spread))
    assert float(total) == pytest.approx((entropy + gap) / math.log(2), abs=1e-9)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_with_a_fixed_variance_every_term_is_its_closed_form(name, variance):
    m, s = 0.3, 0.4
    schedule = SCHEDULES[name]
    total, prior, terms = expected_bound(m, s, schedule, variance)
    alpha_bars = [1.0, *schedule.alpha_bar.tolist()]
    posterior = [
        (1 - now / before) * (1 - before) / (1 - now) for before, now in pairwise(alpha_bars)
    ]
    first = posterior[1] if len(schedule) > 1 else 1 - alpha_bars[1]
    expected = []
    for t in reversed(range(len(schedule))):
        before, now = alpha_bars[t : t + 2]
        uncertainty = s**2 * (1 - now) / (now * s**2 + 1 - now)  # Var(x0 | x_t)
        beta = 1 - now / before
        if t == 0:
            nats = 0.5 * (math.log(2 * math.pi * first) + uncertainty / first)
        else:
            ours = posterior[t] if variance == "fixed_small" else beta
            of_x0 = math.sqrt(before) * beta / (1 - now)
            ratio = posterior[t] / ours
            nats = 0.5 * (ratio - 1 - math.log(ratio) + of_x0**2 * uncertainty / ours)
        expected.append(nats / math.log(2))
    assert terms.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    last = alpha_bars[-1]
    of_prior = 0.5 * (last * (m**2 + s**2) - last - math.log(1 - last)) / math.log(2)
    assert float(prior) == pytest.approx(of_prior, rel=1e-9, abs=1e-14)
    assert float(total) == pytest.approx(of_prior + sum(expected), rel=1e-9)


def test_the_prior_is_not_that_of_a_distribution_against_itself():
    x0 = double(1.0, -0.5).reshape(2, 1, 1)
    last = 0.2
    schedule = cosine(1000)
    step = int((schedule.alpha_bar - last).abs().argmin())
    diffusion = GaussianDiffusion(schedule.respace([step]))
    last = float(schedule.alpha_bar[step])
    for value, ours in zip((1.0, -0.5), prior_term(diffusion, x0), strict=True):
        q = Normal(double(math.sqrt(last) * value), double(math.sqrt(1 - last)))
        exact = kl_divergence(q, Normal(double(0.0), double(1.0))) / math.log(2)
        assert float(ours) == pytest.approx(float(exact), rel=1e-12)
        assert float(ours) > 0.01


def test_the_decoder_is_used_for_step_0_and_for_no_other():
    schedule = linear(50)
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    x0 = torch.full((3, 1, 4), 1 / 255, dtype=torch.float64)
    x_t = torch.full((3, 1, 4), 0.1, dtype=torch.float64)
    prediction = Prediction(torch.full_like(x0, 0.05), x_t)
    t = torch.tensor([0, 7, 0])
    terms = vlb_term(diffusion, prediction, x0, x_t, t)
    p = diffusion.p_posterior(prediction, x_t, t)
    decoder = -discretized_gaussian_log_likelihood(x0, p).mean(dim=(1, 2)) / math.log(2)
    kl = gaussian_kl(diffusion.q_posterior(x0, x_t, t), p).mean(dim=(1, 2)) / math.log(2)
    assert torch.allclose(terms, torch.stack([decoder[0], kl[1], decoder[2]]))
    assert abs(float(kl[0] - decoder[0])) > 0.1


def test_the_bit_depth_changes_the_decoder_alone():
    schedule = linear(50)
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    x0 = torch.full((1, 1, 2), 3 / 255, dtype=torch.float64)
    noise = torch.full_like(x0, 0.3)

    def measured(bits):
        return bits_per_dim(
            diffusion,
            gaussian_denoiser(0.0, 0.5, schedule, "fixed_small"),
            x0,
            noise=lambda number: noise,
            bits=bits,
        )

    eight, sixteen = measured(8), measured(16)
    assert torch.equal(eight.vb[:, :-1], sixteen.vb[:, :-1])
    # 257 bins of the finer grid fit in one of the coarser.
    assert float(sixteen.vb[0, -1] - eight.vb[0, -1]) == pytest.approx(math.log2(257), abs=0.01)


def test_clipping_bounds_the_estimate_and_conditioning_arrives():
    schedule = linear(50)
    diffusion = GaussianDiffusion(schedule, "fixed_small")
    seen = []

    def network(x, shown, y):
        seen.append((float(shown[0]), y))
        return torch.full_like(x, 5.0)

    x0 = torch.zeros(1, 1, 2)
    denoiser = Denoiser(network, diffusion, "x0")
    y = torch.tensor([3])
    clipped = bits_per_dim(diffusion, denoiser, x0, y=y)
    raw = bits_per_dim(diffusion, denoiser, x0, y=y, clip=False)
    assert torch.allclose(clipped.x0_mse, torch.tensor(1.0))
    assert torch.allclose(raw.x0_mse, torch.tensor(25.0))
    assert all(given is y for _, given in seen)
    assert [time for time, _ in seen[:50]] == sorted({time for time, _ in seen}, reverse=True)
