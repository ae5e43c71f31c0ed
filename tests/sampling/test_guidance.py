import math

import pytest
import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine
from iddpm.sampling import (
    DDIM,
    autoguided,
    classifier_free,
    classifier_guided,
    clip_x0,
    sample,
    threshold_x0,
)


def network(x, shown, y):
    """The class moves the output; no class is label -1."""
    return 0.3 * x + 0.1 * (y + 1).to(x.dtype)[:, None]


def make(predicts="eps", variance="fixed_small"):
    def with_variance(x, shown, y):
        out = network(x, shown, y)
        return torch.cat([out, 0.2 * (y + 1).to(x.dtype)[:, None].expand_as(out)], dim=1)

    learned = variance.startswith("learned")
    diffusion = GaussianDiffusion(cosine(100), variance)
    return Denoiser(with_variance if learned else network, diffusion, predicts)


X = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(2, 3)
Y = torch.tensor([0, 4])
T = torch.tensor([20, 70])


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "previous"])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_guidance_extrapolates_linearly(predicts, scale):
    denoiser = make(predicts)
    level = denoiser.diffusion.schedule.at(T)
    guided = classifier_free(denoiser, scale)(X, level, y=Y)
    given, nothing = denoiser(X, level, y=Y), denoiser(X, level, y=torch.full_like(Y, -1))
    for name in ("x0", "eps", "mean"):
        a, b, c = (getattr(p, name) for p in (guided, given, nothing))
        if a is not None:
            torch.testing.assert_close(a, c + scale * (b - c))
    assert (guided.mean is not None) == (predicts == "previous")


def test_x0_and_eps_stay_consistent():
    denoiser = make("v")
    level = denoiser.diffusion.schedule.at(T)
    guided = classifier_free(denoiser, 2.5)(X, level, y=Y)
    alpha_bar = level.alpha_bar[:, None]
    torch.testing.assert_close(
        alpha_bar.sqrt() * guided.x0 + (1 - alpha_bar).sqrt() * guided.eps, X
    )


@pytest.mark.parametrize("predicts", ["eps", "x0", "v", "previous"])
@pytest.mark.parametrize("rescale", [0.3, 1.0])
def test_rescaled_guidance_has_the_spread_of_the_estimate_as_trained(predicts, rescale):
    """Lin et al. 2024, equations 15 and 16, on v."""

    def stretched(x, shown, y):
        return (0.3 + 0.1 * (y + 1).to(x.dtype)[:, None]) * x

    denoiser = Denoiser(stretched, GaussianDiffusion(cosine(100), "fixed_small"), predicts)
    level = denoiser.diffusion.schedule.at(T)
    plain, given = classifier_free(denoiser, 4.0)(X, level, y=Y), denoiser(X, level, y=Y)
    ours = classifier_free(denoiser, 4.0, rescale=rescale)(X, level, y=Y)
    a = level.alpha_bar[:, None]

    def v(prediction):
        return a.sqrt() * prediction.eps - (1 - a).sqrt() * prediction.x0

    spread = v(given).std(dim=1, keepdim=True) / v(plain).std(dim=1, keepdim=True)
    wanted = rescale * spread * v(plain) + (1 - rescale) * v(plain)
    torch.testing.assert_close(v(ours), wanted)
    torch.testing.assert_close(a.sqrt() * ours.x0 + (1 - a).sqrt() * ours.eps, X)
    assert not torch.allclose(v(ours), v(plain))
    if predicts == "previous":
        assert not torch.allclose(ours.mean, plain.mean)


def test_rescaling_out_of_range():
    with pytest.raises(ValueError, match=r"rescale=1.5 must lie in 0"):
        classifier_free(make(), 2.0, rescale=1.5)


def test_variance_is_that_of_the_class():
    denoiser = make(variance="learned_range")
    level = denoiser.diffusion.schedule.at(T)
    guided = classifier_free(denoiser, 2.0)(X, level, y=Y)
    torch.testing.assert_close(guided.variance, denoiser(X, level, y=Y).variance)
    assert guided.variance_kind == "learned_range"


def test_outside_the_interval_the_class_is_used_as_trained():
    denoiser = make()
    schedule = denoiser.diffusion.schedule
    sigma = ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()
    guided = classifier_free(denoiser, 3.0, sigma_interval=(float(sigma[40]), float(sigma[60])))
    for step, inside in ((39, False), (40, True), (60, True), (61, False)):
        level = schedule.at(torch.full((2,), step))
        same = torch.equal(guided(X, level, y=Y).eps, denoiser(X, level, y=Y).eps)
        assert same != inside


def test_each_item_may_have_its_own_scale_and_place_in_the_interval():
    denoiser = make(variance="learned_range")
    schedule = denoiser.diffusion.schedule
    level = schedule.at(torch.tensor([20, 50]))
    scales = torch.tensor([1.5, 4.0])
    both = classifier_free(denoiser, scales)(X, level, y=Y)
    inside = (0.0, float(((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()[30]))
    first = classifier_free(denoiser, 1.5, sigma_interval=inside)(X, level, y=Y)
    for row, scale in enumerate(scales.tolist()):
        alone = classifier_free(denoiser, scale)(X, level, y=Y)
        torch.testing.assert_close(both.x0[row], alone.x0[row])
        torch.testing.assert_close(both.eps[row], alone.eps[row])
    torch.testing.assert_close(first.eps[0], both.eps[0])
    torch.testing.assert_close(first.eps[1], denoiser(X, level, y=Y).eps[1])


def test_every_sampler_gets_it_by_conditioning():
    denoiser = make("x0")
    schedule = denoiser.diffusion.schedule.respace([0, 30, 60, 99])
    plain = sample(DDIM(), clip_x0(denoiser), schedule, X, y=Y)
    guided = sample(DDIM(), clip_x0(classifier_free(denoiser, 2.0)), schedule, X, y=Y)
    assert not torch.allclose(plain, guided)
    assert float(guided.abs().max()) <= 1


def test_other_conditioning_passes_through_every_guide():
    schedule, seen = cosine(100), []

    def conditioned(who):
        def network(x, shown, low_res, y=None):
            seen.append((who, low_res.tolist(), None if y is None else y.tolist()))
            return x

        return Denoiser(network, GaussianDiffusion(schedule, "fixed_small"), "x0")

    def slope(x_t, level, y):
        seen.append(("classifier", None, y.tolist()))
        return torch.zeros_like(x_t)

    level, low_res = schedule.at(T), torch.tensor([7.0, 8.0])
    guided = classifier_free(autoguided(conditioned("model"), conditioned("weaker"), 2.0), 3.0)
    guided = threshold_x0(classifier_guided(guided, slope, 1.0), 0.995)
    guided(X, level, y=Y, low_res=low_res)
    both = ([7.0, 8.0, 7.0, 8.0], [0, 4, -1, -1])
    assert seen == [("model", *both), ("weaker", *both), ("classifier", None, [0, 4])]
    seen.clear()
    classifier_guided(conditioned("model"), slope, 1.0, conditional=False)(
        X, level, y=Y, low_res=low_res
    )
    assert seen == [("model", [7.0, 8.0], None), ("classifier", None, [0, 4])]


def test_conditions_are_hidden_together_with_the_class_and_given_data_is_not():
    schedule, seen = cosine(100), []

    def network(x, shown, **conditioning):
        seen.append({name: value.tolist() for name, value in conditioning.items()})
        return x

    model = Denoiser(network, GaussianDiffusion(schedule, "fixed_small"), "x0")
    conditioning = {
        "conditions": torch.tensor([[0.5, 1.0], [math.nan, 2.0]]),
        "given": torch.ones(2, 1),
    }
    classifier_free(model, 3.0)(X, schedule.at(T), **conditioning, y=Y)
    classifier_free(model, 0.0)(X, schedule.at(T), **conditioning)
    assert seen[0]["y"] == [0, 4, -1, -1]
    assert str(seen[0]["conditions"]) == "[[0.5, 1.0], [nan, 2.0], [nan, nan], [nan, nan]]"
    assert seen[0]["given"] == [[1.0]] * 4
    assert str(seen[1]) == "{'conditions': [[nan, nan], [nan, nan]], 'given': [[1.0], [1.0]]}"


def embedded(rows=6):
    table = torch.linspace(-0.4, 0.5, rows, dtype=torch.float64)

    def network(x, shown, **conditioning):
        return 0.3 * x + sum(table[value][:, None] for value in conditioning.values())

    return Denoiser(network, GaussianDiffusion(cosine(100), "fixed_small"), "x0"), table


@pytest.mark.parametrize("scale", [0.0, 2.5])
@pytest.mark.parametrize("null", [5, torch.tensor(5), torch.tensor([5])])
def test_any_keyword_is_guided_from_its_null_value(scale, null):
    denoiser, table = embedded()
    level = denoiser.diffusion.schedule.at(T)
    guided = classifier_free(denoiser, scale, null={"labels": null})(X, level, labels=Y)
    expected = 0.3 * X + table[5] + scale * (table[Y] - table[5])[:, None]
    torch.testing.assert_close(guided.x0, expected)


def test_a_null_row_of_context_is_repeated_for_each_item():
    seen = []

    def network(x, shown, context):
        seen.append(context)
        return x

    denoiser = Denoiser(network, GaussianDiffusion(cosine(100), "fixed_small"), "x0")
    row, context = torch.full((3, 2), 7.0), torch.zeros(2, 3, 2)
    guided = classifier_free(denoiser, 2.0, null={"context": row})
    guided(X, denoiser.diffusion.schedule.at(T), context=context)
    assert torch.equal(seen[0], torch.cat([context, row.expand(2, 3, 2)]))


@pytest.mark.parametrize(
    ("null", "conditioning", "message"),
    [
        (None, {"labels": Y}, "does not know the value for no labels"),
        ({"label": 5}, {"labels": Y}, "null names label, and the model is called with labels"),
        ({"labels": 0.5}, {"labels": Y}, r"null\['labels'\] is 0.5, and labels holds torch.int64"),
        ({"labels": torch.zeros(3, dtype=torch.long)}, {"labels": Y}, "a row of labels has"),
        ({"labels": 5}, {"labels": [0, 4]}, "cannot hide labels: it is a list"),
        ({"labels": 5}, {"labels": torch.tensor(0)}, "a row for each of the 2 items"),
        ({"labels": None}, {"labels": Y}, "has no conditioning to hide"),
        (None, {"low_res": Y}, "has no conditioning to hide: the model is called with low_res"),
        (None, {}, "has no conditioning to hide: the model is called with no conditioning"),
        ({"labels": 6}, {"labels": Y}, "no embedding for no conditioning, labels=.6."),
    ],
)
@pytest.mark.parametrize("scale", [0.0, 5.0])
def test_what_cannot_be_guided_is_refused_by_name(null, conditioning, message, scale):
    denoiser, _ = embedded()
    with pytest.raises(ValueError, match=message):
        classifier_free(denoiser, scale, null=null)(
            X, denoiser.diffusion.schedule.at(T), **conditioning
        )


def test_a_label_out_of_range_is_not_taken_for_a_missing_null_row():
    denoiser, _ = embedded()
    guided = classifier_free(denoiser, 2.0, null={"labels": 5})
    with pytest.raises(IndexError):
        guided(X, denoiser.diffusion.schedule.at(T), labels=Y + 100)


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf])
def test_scales_that_are_not_finite_are_refused(scale):
    def never(*_, **__):
        raise AssertionError

    for build in (
        lambda: classifier_free(never, scale),
        lambda: autoguided(never, never, scale),
        lambda: classifier_guided(never, never, scale),
    ):
        with pytest.raises(ValueError, match="finite"):
            build()
    with pytest.raises(ValueError, match=r"autoguidance is 0\.5"):
        autoguided(never, never, 0.5)
