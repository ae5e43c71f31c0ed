import math

import mpmath
import pytest
import torch

from iddpm.diffusion import (
    Denoiser,
    GaussianDiffusion,
    NoiseSchedule,
    Prediction,
    cosine,
    linear,
    zero_terminal_snr,
)
from iddpm.diffusion.variational_bound import prior_term
from iddpm.sampling import DDIM, DDPM, sample


def exact_cosine(num_steps):
    """Betas and alpha_bar of Nichol & Dhariwal's equation 17 in 40 digits."""
    with mpmath.workdps(40):
        offset = mpmath.mpf("0.008")
        f = [
            mpmath.cos((mpmath.mpf(i) / num_steps + offset) / (1 + offset) * mpmath.pi / 2) ** 2
            for i in range(num_steps + 1)
        ]
        cap = mpmath.mpf("0.999")
        betas = [min(1 - f[i + 1] / f[i], cap) for i in range(num_steps)]
        alpha_bar, product = [], mpmath.mpf(1)
        for beta in betas:
            product *= 1 - beta
            alpha_bar.append(product)
        return betas, alpha_bar


def worst_relative(ours, exact):
    with mpmath.workdps(40):
        pairs = zip(ours.tolist(), exact, strict=True)
        return max(float(abs(mpmath.mpf(value) / true - 1)) for value, true in pairs)


@pytest.mark.parametrize("num_steps", [50, 1000, 4000])
def test_cosine_agrees_with_forty_digits(num_steps):
    betas, alpha_bar = exact_cosine(num_steps)
    schedule = cosine(num_steps)
    assert worst_relative(schedule.betas, betas) < 1e-9
    assert worst_relative(schedule.alpha_bar, alpha_bar) < 1e-9
    # Only the last betas meet the cap.
    assert float(schedule.betas[-1]) == pytest.approx(0.999, abs=1e-12)
    assert float(schedule.betas[-2]) < 0.999 - 1e-3


@pytest.mark.parametrize(
    ("num_steps", "first", "last"), [(1000, 1e-4, 0.02), (4000, 2.5e-5, 0.005), (50, 2e-3, 0.4)]
)
def test_linear_has_the_published_ends_and_is_straight(num_steps, first, last):
    betas = linear(num_steps).betas
    assert float(betas[0]) == pytest.approx(first, rel=1e-10)
    assert float(betas[-1]) == pytest.approx(last, rel=1e-10)
    steps = betas.diff()
    assert torch.allclose(steps, steps.mean(), rtol=1e-6, atol=0)


def test_any_length_of_linear_adds_about_as_much_noise():
    # sum of betas = 1000/T * T * mean, hence the same for every T
    assert float(linear(4000).betas.sum()) == pytest.approx(10.05)
    assert float(linear(100).betas.sum()) == pytest.approx(10.05)


@pytest.mark.parametrize("num_steps", [1, 7, 20])
def test_too_short_a_linear_schedule_names_the_numbers(num_steps):
    with pytest.raises(ValueError, match=rf"{num_steps} steps .* at least 21 "):
        linear(num_steps)


def test_the_shortest_linear_schedule():
    schedule = linear(21)
    assert len(schedule) == 21
    assert float(schedule.betas[-1]) == pytest.approx(0.02 * 1000 / 21)
    assert len(linear(20, beta_end=0.01)) == 20


@pytest.mark.parametrize("make", [linear, cosine])
@pytest.mark.parametrize("num_steps", [0, -3])
def test_no_steps_are_refused(make, num_steps):
    with pytest.raises(ValueError, match=f"at least 1 step, not {num_steps}"):
        make(num_steps)


@pytest.mark.parametrize("schedule", [linear(100), cosine(4000), cosine(1), cosine(50)])
def test_tables_are_float64_on_the_cpu_and_follow_their_definitions(schedule):
    n = len(schedule)
    names = ["alpha_bar", "alpha_bar_prev", "betas", "posterior_variance"]
    names += ["posterior_log_variance", "large_log_variance", "shown"]
    tables = {name: getattr(schedule, name) for name in names}
    for name, table in tables.items():
        assert table.dtype == torch.float64, name
        assert table.device.type == "cpu", name
        assert table.shape == (n,), name
        assert bool(table.isfinite().all()), name
    assert schedule.index.tolist() == list(range(n))
    assert float(schedule.alpha_bar_prev[0]) == 1
    before = 1.0
    for i, alpha_bar in enumerate(schedule.alpha_bar.tolist()):
        beta = 1 - alpha_bar / before
        assert float(schedule.betas[i]) == beta
        assert float(schedule.posterior_variance[i]) == pytest.approx(
            beta * (1 - before) / (1 - alpha_bar), rel=1e-12
        )
        before = alpha_bar
    # Step 0 borrows its neighbor's posterior variance, since its own is 0.
    neighbor = schedule.posterior_variance[1] if n > 1 else schedule.betas[0]
    assert float(schedule.posterior_log_variance[0]) == math.log(neighbor)
    assert float(schedule.large_log_variance[0]) == math.log(neighbor)
    posterior = schedule.posterior_log_variance[1:].exp()
    assert torch.allclose(posterior, schedule.posterior_variance[1:], rtol=1e-12, atol=0)
    large = schedule.large_log_variance[1:].exp()
    assert torch.allclose(large, schedule.betas[1:], rtol=1e-12, atol=0)


def test_the_time_shown_is_rescaled_to_a_thousand():
    assert cosine(4000).shown[:3].tolist() == [0.0, 0.25, 0.5]
    assert cosine(4000, rescale_timesteps=False).shown[:3].tolist() == [0.0, 1.0, 2.0]
    assert linear(50).shown[-1] == 980
    assert linear(50, rescale_timesteps=False).shown[-1] == 49


def test_respacing_keeps_alpha_bar_and_shown_exactly():
    whole = cosine(4000)
    kept = [0, 3, 1000, 3999]
    spaced = whole.respace(kept)
    assert torch.equal(spaced.alpha_bar, whole.alpha_bar[kept])
    assert torch.equal(spaced.shown, whole.shown[kept])
    assert spaced.index.tolist() == kept
    # The betas are new: each step now does the work of several.
    product = torch.cumprod(1 - spaced.betas, 0)
    assert torch.allclose(product, whole.alpha_bar[kept], rtol=1e-6, atol=0)
    assert torch.equal(whole.respace(range(4000)).betas, whole.betas)


def test_respacing_twice_composes_the_indices():
    whole = linear(1000)
    once = whole.respace(range(0, 1000, 10))
    twice = once.respace([0, 7, 99])
    assert twice.index.tolist() == [0, 70, 990]
    assert torch.equal(twice.alpha_bar, whole.alpha_bar[[0, 70, 990]])
    assert torch.equal(twice.shown, whole.shown[[0, 70, 990]])


@pytest.mark.parametrize("kept", [[], [3, 2], [1, 1], [-1, 2], [0, 10], list(range(11))])
def test_kept_steps_that_are_none_are_refused_with_the_numbers(kept):
    with pytest.raises(ValueError, match=r"within 0\.\.9") as raised:
        cosine(10).respace(kept)
    if kept:
        assert str(kept[-1]) in str(raised.value)


def test_a_step_between_two_is_interpolated_in_log_snr():
    whole = cosine(4000)
    spaced = whole.respace([0, 2.25, 1000, 1000.5, 3999])
    assert spaced.index.tolist() == [0, 2.25, 1000, 1000.5, 3999]
    assert spaced.shown.tolist() == [0, 2.25 / 4, 250, 250.125, 3999 / 4]
    assert all(t.dtype == torch.float64 for t in (spaced.alpha_bar, spaced.index, spaced.shown))
    # Whole steps keep the table's values to the last bit, beside others too.
    assert torch.equal(spaced.alpha_bar[[0, 2, 4]], whole.alpha_bar[[0, 1000, 3999]])
    for step, below, share in [(1, 2, 0.25), (3, 1000, 0.5)]:
        with mpmath.workdps(40):
            ends = [mpmath.mpf(float(whole.alpha_bar[below + k])) for k in (0, 1)]
            ends = [mpmath.log(a / (1 - a)) for a in ends]
            logit = (1 - share) * ends[0] + share * ends[1]
            exact = 1 / (1 + mpmath.exp(-logit))
        assert float(spaced.alpha_bar[step]) == pytest.approx(float(exact), rel=1e-12)


def test_whole_steps_given_as_floats_reproduce_the_table_and_stay_whole():
    whole = linear(1000)
    spaced = whole.respace([0.0, 7.0, 999.0])
    assert spaced.index.dtype == torch.int64
    assert spaced.index.tolist() == [0, 7, 999]
    assert torch.equal(spaced.alpha_bar, whole.alpha_bar[[0, 7, 999]])
    assert torch.equal(spaced.shown, whole.shown[[0, 7, 999]])


def test_respacing_a_schedule_of_steps_between_steps():
    once = cosine(100).respace([0, 10.5, 20.5, 99])
    assert once.respace([1, 3]).index.tolist() == [10.5, 99]
    twice = once.respace([1.5])
    assert twice.index.tolist() == [15.5]
    assert float(twice.half_log_snr) == pytest.approx(float(once.half_log_snr[1:3].mean()))


@pytest.mark.parametrize("kept", [[-0.1, 2], [0, 9.01], [1.5, 1.5], [2.5, 1.25], [math.nan]])
def test_steps_between_steps_are_refused_by_the_same_rule(kept):
    with pytest.raises(ValueError, match=r"within 0\.\.9"):
        cosine(10).respace(kept)


def test_the_half_log_snr_is_that_of_its_definition():
    schedule = cosine(50)
    ratio = schedule.alpha_bar.sqrt() / (1 - schedule.alpha_bar).sqrt()
    assert torch.allclose(schedule.half_log_snr, ratio.log(), rtol=1e-12)
    assert bool((schedule.half_log_snr.diff() < 0).all())


@pytest.mark.parametrize(
    "alpha_bar",
    [[0.5, 0.5], [0.5, 0.6], [1.0, 0.5], [0.5, -0.1], [0.0, 0.0], [0.0, -0.1], [0.5, float("nan")]],
)
def test_tables_that_are_no_process_are_refused(alpha_bar):
    table = torch.tensor(alpha_bar, dtype=torch.float64)
    with pytest.raises(ValueError, match="must fall strictly"):
        NoiseSchedule(table, torch.arange(2), torch.arange(2.0))


@pytest.mark.parametrize("schedule", [cosine(1000).respace([999]), linear(1000).respace([400])])
@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large", "learned_range"])
@pytest.mark.parametrize("sampler", [DDPM(), DDIM(), DDIM(eta=1.0)])
def test_a_process_of_one_step_works(schedule, variance, sampler):
    diffusion = GaussianDiffusion(schedule, variance)
    beta = 1 - float(schedule.alpha_bar[0])
    x = torch.randn(2, 1, 4, dtype=torch.float64)
    x0 = torch.full_like(x, 0.25)
    prediction = Prediction(x0, x, torch.zeros_like(x), variance_kind=variance)
    log_variance = diffusion.log_variance(prediction, x, torch.tensor([0, 0]))
    assert torch.allclose(log_variance, torch.tensor(math.log(beta), dtype=torch.float64))
    assert torch.allclose(sample(sampler, lambda x_t, level: prediction, schedule, x), x0)


@pytest.mark.parametrize("make", [linear, cosine])
def test_zero_terminal_snr_is_the_published_rescaling(make):
    """Lin et al. 2024, algorithm 1, in its own words: on the roots, then back to betas."""
    whole = make(1000)
    schedule = zero_terminal_snr(whole)
    root = [mpmath.sqrt(mpmath.mpf(a)) for a in whole.alpha_bar.tolist()]
    moved = [(r - root[-1]) * root[0] / (root[0] - root[-1]) for r in root]
    ours = schedule.alpha_bar.tolist()
    assert ours[-1] == 0
    assert ours[0] == float(whole.alpha_bar[0])
    assert ours == pytest.approx([float(r**2) for r in moved], rel=1e-8, abs=1e-300)
    assert torch.equal(schedule.shown, whole.shown)
    assert schedule.ends_in_pure_noise
    assert not whole.ends_in_pure_noise


@pytest.mark.parametrize("make", [linear, cosine])
def test_the_tables_of_a_schedule_that_ends_in_pure_noise(make):
    schedule = zero_terminal_snr(make(100))
    assert float(schedule.betas[-1]) == 1
    before = float(schedule.alpha_bar[-2])
    assert float(schedule.posterior_variance[-1]) == 1 - before
    assert float(schedule.half_log_snr[-1]) == -math.inf
    assert bool(schedule.half_log_snr[:-1].isfinite().all())
    for name in ("posterior_log_variance", "large_log_variance", "betas"):
        assert bool(getattr(schedule, name).isfinite().all()), name
    last = torch.tensor([99, 99])
    x0, noise = (
        torch.tensor([[[0.5]], [[-1.0]]]).double(),
        torch.tensor([[[1.5]], [[0.3]]]).double(),
    )
    for variance in ("fixed_small", "fixed_large"):
        diffusion = GaussianDiffusion(schedule, variance)
        assert torch.equal(diffusion.q_sample(x0, last, noise), noise)
        assert torch.equal(prior_term(diffusion, x0), torch.zeros(2).double())
    mean, log_variance = diffusion.q_posterior(x0, noise, last)
    assert torch.allclose(mean, math.sqrt(before) * x0)
    assert torch.allclose(log_variance.exp(), torch.tensor(1 - before).double())


def test_respacing_a_schedule_that_ends_in_pure_noise():
    schedule = zero_terminal_snr(cosine(100))
    spaced = schedule.respace([0, 50.5, 98, 99])
    assert bool(spaced.alpha_bar.isfinite().all())
    assert spaced.alpha_bar[[0, 2, 3]].tolist() == schedule.alpha_bar[[0, 98, 99]].tolist()
    assert len(schedule.respace([99])) == 1
    for kept in ([0, 98.5], [98.5, 99]):
        with pytest.raises(ValueError, match=r"no step lies between 98 and 99.*98\.5"):
            schedule.respace(kept)
    with pytest.raises(ValueError, match="at least 2 steps"):
        zero_terminal_snr(cosine(1))


@pytest.mark.parametrize("predicts", ["eps", "previous"])
def test_pure_noise_is_refused_with_a_prediction_that_says_nothing_there(predicts):
    diffusion = GaussianDiffusion(zero_terminal_snr(cosine(10)), "fixed_small")
    with pytest.raises(
        ValueError, match=f"predicts='{predicts}' does not depend.*predict v, x0 or"
    ):
        Denoiser(lambda x, shown: x, diffusion, predicts)
