"""The score by which samplers are compared."""

import math

import pytest
import torch

from iddpm.evaluation.distances import Estimate
from iddpm.evaluation.measures import Measures
from iddpm.evaluation.tuning import Score, spread_within


def test_a_lack_of_diversity_makes_the_distance_larger():
    score = Score(2.0, 0.1, recall=0.5, coverage=0.8, spread=0.25)
    diversity = (0.5 * 0.8 * 0.25) ** (1 / 3)
    assert score.diversity == pytest.approx(diversity)
    assert score.value == pytest.approx(Estimate(2.0 / diversity, 0.1 / diversity))
    wide = Score(2.0, 0.1, recall=1.0, coverage=1.0, spread=1.7)
    assert wide.diversity == 1  # more spread than the data is no merit
    none = Score(2.0, 0.1, recall=0.0, coverage=1.0, spread=1.0)
    assert math.isfinite(none.value.value)


def test_it_is_made_of_the_measures():
    values = {"frechet_distance": Estimate(3.0, 0.2), "recall": 0.4, "coverage": 0.6}
    assert Score.of(Measures(200, 200, values), 0.9) == Score(3.0, 0.2, 0.4, 0.6, 0.9)


@pytest.mark.parametrize("scale", [0.25, 0.5, 1.0])
def test_the_spread_is_that_within_the_modes(scale):
    """Two distant modes: their distance plays no part."""
    draws = torch.randn(2, 400, 3, generator=torch.Generator().manual_seed(0))
    modes = 50.0 * (torch.arange(400) % 2)[:, None]
    found = spread_within(scale * draws[0] + modes, draws[1] + modes)
    assert found == pytest.approx(scale, rel=0.1)


def test_too_few_items():
    with pytest.raises(ValueError, match="need more than 3 items"):
        spread_within(torch.zeros(3, 2), torch.zeros(9, 2))
