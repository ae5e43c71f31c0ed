"""Guidance by a classifier and by a weaker model, and thresholding, in closed form.

Data is a mixture of two Gaussians in one dimension and its component is the class, so that the
scores of p(x_t), of p(x_t | y) and of p(y | x_t) are all known.
"""

import math

import pytest
import torch

from iddpm.diffusion import GaussianDiffusion, Prediction, cosine, linear
from iddpm.diffusion.prediction import from_previous, posterior_mean
from iddpm.diffusion.schedule import broadcast
from iddpm.sampling import (
    DDIM,
    DDPM,
    IPNDM,
    DPMSolverPP,
    Heun,
    UniPC,
    autoguided,
    classifier_free,
    classifier_gradient,
    classifier_guided,
    clip_x0,
    log_snr_timesteps,
    sample,
    shown_by,
    threshold_x0,
)
from tests.sampling.test_gaussian_data import exact_denoiser

WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
MEANS = torch.tensor([-0.6, 0.5], dtype=torch.float64)
SPREADS = torch.tensor([0.2, 0.4], dtype=torch.float64)
SCHEDULE = cosine(200).respace(log_snr_timesteps(cosine(200), 12))
LEVELS = range(len(SCHEDULE))
X = torch.tensor([-1.3, -0.2, 0.1, 0.9], dtype=torch.float64).reshape(4, 1, 1)
Y = torch.tensor([0, 1, 0, 1])
OF_CLASS = [exact_denoiser(float(m), float(s)) for m, s in zip(MEANS, SPREADS, strict=True)]


def log_joint(x_t, alpha_bar):
    """log p(x_t, y) for both classes, [N, 2]."""
    x, alpha_bar = x_t.reshape(-1, 1), alpha_bar.reshape(-1, 1)
    variance = alpha_bar * SPREADS**2 + 1 - alpha_bar
    squares = (x - alpha_bar.sqrt() * MEANS) ** 2 / variance
    return WEIGHTS.log() - (squares + variance.log()) / 2


def classifier(x_t, shown):
    """Logits of the true classes, as a network would give them: by the time shown."""
    nearest = (SCHEDULE.shown[None] - shown.double()[:, None]).abs().argmin(1)
    return log_joint(x_t, SCHEDULE.alpha_bar[nearest])


def conditional(x_t, level, y):
    both = [denoise(x_t, level) for denoise in OF_CLASS]
    chosen = (y == 1).reshape(-1, 1, 1)
    return Prediction(*(torch.where(chosen, *(getattr(p, n) for p in both[::-1]))
                        for n in ("x0", "eps")))  # fmt: skip


def marginal(x_t, level):
    share = log_joint(x_t, level.alpha_bar).softmax(1)
    both = [denoise(x_t, level) for denoise in OF_CLASS]
    x0, eps = (
        sum(share[:, k].reshape(-1, 1, 1) * getattr(both[k], name) for k in (0, 1))
        for name in ("x0", "eps")
    )
    return Prediction(x0, eps)


def guided(scale, **options):
    gradient = classifier_gradient(classifier)
    return classifier_guided(marginal, gradient, scale, conditional=False, **options)


def at(i):
    return SCHEDULE.at(torch.full((len(X),), i))


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
def test_the_guided_score_is_the_sum_of_both(scale):
    """At scale 1 that is the exact denoiser of the class."""
    for i in LEVELS:
        ours = guided(scale)(X, at(i), y=Y)
        given, alone = conditional(X, at(i), Y), marginal(X, at(i))
        for name in ("x0", "eps"):
            wanted = torch.lerp(getattr(alone, name), getattr(given, name), scale)
            torch.testing.assert_close(getattr(ours, name), wanted, rtol=1e-6, atol=1e-6)
        alpha_bar = broadcast(at(i).alpha_bar, X)
        back = alpha_bar.sqrt() * ours.x0 + (1 - alpha_bar).sqrt() * ours.eps
        torch.testing.assert_close(back, X)


@pytest.mark.parametrize(
    "sampler",
    [DDIM(), DDIM(0.5), DDPM(), Heun(), IPNDM(4), DPMSolverPP(3), DPMSolverPP(2, True), UniPC(3)],
    ids=str,
)
def test_every_sampler_follows_it(sampler):
    """Guided by the true classifier, the trajectory is that of the class."""

    def noise(number):
        return torch.full_like(X, math.sin(number))

    ours = sample(sampler, guided(1.0), SCHEDULE, X, noise=noise, y=Y)
    wanted = sample(sampler, conditional, SCHEDULE, X, noise=noise, y=Y)
    torch.testing.assert_close(ours, wanted, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(ours, sample(sampler, marginal, SCHEDULE, X, noise=noise), atol=0.01)


def test_a_predicted_mean_is_moved_as_x0_is():
    i = 4
    mean = posterior_mean(marginal(X, at(i)).x0, X, at(i))

    def previous(x_t, level):
        return from_previous(x_t, mean, level)

    gradient = classifier_gradient(classifier)
    moved = classifier_guided(previous, gradient, 1.0, conditional=False)(X, at(i), y=Y)
    wanted = posterior_mean(conditional(X, at(i), Y).x0, X, at(i))
    torch.testing.assert_close(moved.mean, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_the_published_form_shifts_ddpms_mean_by_variance_times_gradient(variance):
    gradient = classifier_gradient(classifier)

    def model(x_t, level):
        prediction = marginal(x_t, level)
        return Prediction(prediction.x0, prediction.eps, variance_kind=variance)

    shifting = classifier_guided(model, gradient, 3.0, form="mean", conditional=False)
    for i in LEVELS:
        t = torch.full((4,), i)
        shifted = DDPM().step(
            lambda x, level: clip_x0(shifting)(x, level, y=Y), X, i, SCHEDULE, lambda: X
        )
        plain = DDPM().step(clip_x0(model), X, i, SCHEDULE, lambda: X)
        log_variance = GaussianDiffusion(SCHEDULE, variance).log_variance(model(X, at(i)), X, t)
        wanted = log_variance.exp() * 3.0 * gradient(X, at(i), Y)
        torch.testing.assert_close(shifted.x - plain.x, wanted, rtol=1e-9, atol=1e-12)
        assert float(wanted.abs().max()) > 0


def test_both_forms_agree_on_short_steps():
    """The score form moves DDPM's mean by beta / sqrt(alpha), which a fine step's variance is."""
    fine = cosine(4000)
    i = 2000
    level = fine.at(torch.full((4,), i))

    def gradient(x_t, level, y):
        return torch.ones_like(x_t)

    def step(form):
        def model(x_t, level):
            return Prediction(*[marginal(x_t, level).x0, marginal(x_t, level).eps],
                              variance_kind="fixed_large")  # fmt: skip

        denoise = classifier_guided(model, gradient, 1.0, form=form, conditional=False)
        return DDPM().step(lambda x, lv: denoise(x, lv, y=Y), X, i, fine, lambda: 0 * X).x

    def plain(x_t, level):
        return marginal(x_t, level)

    base = DDPM().step(plain, X, i, fine, lambda: 0 * X).x
    score, mean = step("score") - base, step("mean") - base
    assert float(level.alpha_bar[0]) < 1
    torch.testing.assert_close(score, mean, rtol=2e-3, atol=0)


def test_gradients_are_taken_where_they_are_switched_off():
    with torch.no_grad():
        gradient = classifier_gradient(classifier)(X, at(5), Y)
    assert not gradient.requires_grad
    x = X.clone().requires_grad_()
    log_joint(x, at(5).alpha_bar).log_softmax(1).gather(1, Y[:, None]).sum().backward()
    torch.testing.assert_close(gradient, x.grad)


def test_a_conditional_model_receives_the_class_too():
    seen = []

    def model(x_t, level, y):
        seen.append(y)
        return marginal(x_t, level)

    gradient = classifier_gradient(classifier)
    classifier_guided(model, gradient, 1.0)(X, at(3), y=Y)
    classifier_guided(classifier_free(model, 2.0), gradient, 1.0)(X, at(3), y=Y)
    assert [y.tolist() for y in seen] == [[0, 1, 0, 1], [0, 1, 0, 1, -1, -1, -1, -1]]


def test_nothing_is_followed_where_nothing_is_left_of_the_data():
    level = at(0)._replace(alpha_bar=torch.zeros(4, dtype=torch.float64))

    def model(x_t, level):
        return Prediction(torch.zeros_like(x_t), x_t)

    def gradient(x_t, level, y):
        return torch.ones_like(x_t)

    prediction = classifier_guided(model, gradient, 5.0, conditional=False)(X, level, y=Y)
    assert torch.equal(prediction.x0, 0 * X)
    assert torch.equal(prediction.eps, X)


# ------------------------------------------------------------------------------- autoguidance


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.5])
def test_autoguidance_extrapolates_from_the_weaker_model(scale):
    stronger, weaker = OF_CLASS
    for i in LEVELS:
        ours = autoguided(stronger, weaker, scale)(X, at(i))
        a, b = stronger(X, at(i)), weaker(X, at(i))
        torch.testing.assert_close(ours.x0, scale * a.x0 + (1 - scale) * b.x0)
        torch.testing.assert_close(ours.eps, scale * a.eps + (1 - scale) * b.eps)


def test_autoguidance_keeps_what_else_the_model_says():
    learned = exact_denoiser(0.0, 0.5, "learned")
    level = at(6)
    ours = autoguided(learned, OF_CLASS[0], 2.0)(X, level)
    assert torch.equal(ours.variance, learned(X, level).variance)
    assert ours.variance_kind == "learned"
    mean = posterior_mean(learned(X, level).x0, X, level)
    moved = autoguided(lambda x, lv: from_previous(x, mean, lv), OF_CLASS[0], 2.0)(X, level)
    torch.testing.assert_close(moved.mean, posterior_mean(moved.x0, X, level))


def test_outside_the_interval_the_model_is_used_alone():
    sigma = ((1 - SCHEDULE.alpha_bar) / SCHEDULE.alpha_bar).sqrt()
    interval = float(sigma[4]), float(sigma[7])

    def forbidden(*_):
        raise AssertionError("called outside the interval")

    for wrap in (
        lambda other, **o: autoguided(marginal, other or OF_CLASS[0], 2.0, **o),
        lambda other, **o: classifier_guided(
            marginal, other or classifier_gradient(classifier), 2.0, conditional=False, **o
        ),
    ):
        for i in LEVELS:
            inside = 4 <= i <= 7
            denoise = wrap(None if inside else forbidden, sigma_interval=interval)
            conditioning = {} if "auto" in denoise.__qualname__ else {"y": Y}
            ours = denoise(X, at(i), **conditioning)
            assert torch.equal(ours.x0, marginal(X, at(i)).x0) != inside


# ------------------------------------------------------------------------------- thresholding


def test_thresholding_by_hand():
    x0 = torch.tensor([[-3.0, -0.5, 1.0, 2.0], [0.1, -0.2, 0.3, 0.9]]).double().reshape(2, 1, 4)

    def model(x_t, level):
        return Prediction(x0, x_t)

    x, level = torch.ones_like(x0), SCHEDULE.at(torch.tensor([3, 9]))
    whole, three = threshold_x0(model, 1.0)(x, level), threshold_x0(model, 0.75)(x, level)
    torch.testing.assert_close(whole.x0[0], x0[0] / 3)
    torch.testing.assert_close(three.x0[0], torch.tensor([[-1, -0.25, 0.5, 1]]).double())
    assert torch.equal(whole.x0[1], x0[1])  # within [-1, 1]: s is 1
    alpha_bar = level.alpha_bar.reshape(2, 1, 1)
    torch.testing.assert_close(alpha_bar.sqrt() * three.x0 + (1 - alpha_bar).sqrt() * three.eps, x)
    one = threshold_x0(model, 1e-9)(x, level)  # the smallest magnitude: s is 1, which is clipping
    assert torch.equal(one.x0, clip_x0(model)(x, level).x0)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, math.nan])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match=f"thresholding is {share}"):
        threshold_x0(marginal, share)


@pytest.mark.parametrize("sampler", [DDIM(), DDPM(), UniPC(3)], ids=str)
def test_all_compose(sampler):
    denoise = threshold_x0(autoguided(guided(3.0), guided(1.0), 2.0), 0.9)
    x = sample(sampler, denoise, SCHEDULE, X, noise=lambda number: X, y=Y)
    assert bool((x.abs() <= 1).all())


# ----------------------------------------------------------------------- another model's times


@pytest.mark.parametrize(
    ("mine", "theirs"), [(cosine(1000), linear(500)), (linear(100), cosine(50))]
)
def test_another_model_is_shown_the_time_of_the_same_noise(mine, theirs):
    level = mine.at(torch.arange(len(mine)))
    shown = shown_by(theirs, level)
    assert torch.equal(shown.alpha_bar, level.alpha_bar)
    # Found again by respacing the other schedule at the steps that were shown.
    steps = shown.shown * len(theirs) / 1000
    inside = (level.alpha_bar < theirs.alpha_bar[0]) & (level.alpha_bar > theirs.alpha_bar[-1])
    again = theirs.respace(steps[inside].tolist())
    assert int(inside.sum()) > len(mine) // 2
    torch.testing.assert_close(again.alpha_bar, level.alpha_bar[inside], rtol=1e-9, atol=0)
    outside = shown.shown[~inside]
    assert set(outside.tolist()) <= {float(theirs.shown[0]), float(theirs.shown[-1])}


def test_the_own_times_are_found_again():
    for schedule in (SCHEDULE, cosine(1), cosine(300)):
        level = schedule.at(torch.arange(len(schedule)))
        torch.testing.assert_close(shown_by(schedule, level).shown, level.shown)
