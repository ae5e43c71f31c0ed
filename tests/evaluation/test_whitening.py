"""Features in units of their spread."""

import pytest
import torch

from iddpm.evaluation.distances import FrechetStats, frechet_distance
from iddpm.evaluation.measures import measure
from iddpm.evaluation.reference import Reference
from iddpm.evaluation.whitening import Whitening
from tests.evaluation.test_distances import features


def test_whitened_features_have_covariance_one():
    x = features(300, 5, 0, scale=3.0, shift=2.0)
    stats = FrechetStats.from_features(x)
    white = Whitening.of(stats)
    found = FrechetStats.from_features(white(x))
    torch.testing.assert_close(found.covariance, torch.eye(5).double())
    torch.testing.assert_close(found.mean, torch.zeros(5).double(), rtol=0, atol=1e-12)
    mapped = white.stats(stats)
    torch.testing.assert_close(mapped.covariance, found.covariance)
    assert mapped.count == 300


def test_the_distance_does_not_see_how_features_are_scaled_and_mixed():
    real, drawn = features(300, 5, 0), features(200, 5, 1, scale=1.2, shift=0.3)
    mix = torch.randn(5, 5, generator=torch.Generator().manual_seed(3)).double() * 7

    def distance(real, drawn):
        stats = FrechetStats.from_features(real)
        white = Whitening.of(stats)
        return frechet_distance(FrechetStats.from_features(white(drawn)), white.stats(stats))

    assert distance(real @ mix + 4, drawn @ mix + 4) == pytest.approx(distance(real, drawn))


def test_directions_without_variance_are_left_out():
    x = features(100, 3, 0)
    x[:, 1] = 5.0 + 1e-9 * x[:, 1]
    assert Whitening.of(FrechetStats.from_features(x))(x).shape == (100, 2)
    with pytest.raises(ValueError, match="the same for all items"):
        Whitening.of(FrechetStats.from_features(torch.ones(9, 3)))


def test_measures_are_whitened_on_request():
    real, drawn = features(300, 4, 0), features(200, 4, 1, shift=0.3)
    scales = torch.tensor([1.0, 20.0, 0.1, 5.0]).double()
    one, other = Reference.of(real, {}), Reference.of(real * scales, {})
    plain = [measure(drawn, one, 200), measure(drawn * scales, other, 200)]
    white = [
        measure(drawn, one, 200, whiten=True),
        measure(drawn * scales, other, 200, whiten=True),
    ]
    assert tuple(white[0].frechet) == pytest.approx(tuple(white[1].frechet), rel=1e-4)
    assert tuple(white[0].kernel) == pytest.approx(tuple(white[1].kernel), rel=1e-3)
    assert all(
        white[0].values[n] == white[1].values[n]
        for n in ("precision", "recall", "density", "coverage")
    )
    assert plain[1].frechet.value > 10 * plain[0].frechet.value
