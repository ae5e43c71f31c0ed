"""Precision, recall, density and coverage against loops over all pairs."""

import pytest
import torch

from iddpm.evaluation.precision_recall import manifold


def points(count, seed, shift=0.0):
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed)).double() + shift


def brute_force(samples, real, k, k_density):
    def radius(x, i, k):
        return sorted(float((x[i] - x[j]).norm()) for j in range(len(x)) if j != i)[k - 1]

    def gap(a, b):
        return float((a - b).norm())

    n, m = len(samples), len(real)
    real_balls = [radius(real, i, k) for i in range(m)]
    dense_balls = [radius(real, i, k_density) for i in range(m)]
    sample_balls = [radius(samples, j, k) for j in range(n)]
    precision = sum(any(gap(s, real[i]) <= real_balls[i] for i in range(m)) for s in samples) / n
    recall = sum(any(gap(r, samples[j]) <= sample_balls[j] for j in range(n)) for r in real) / m
    density = sum(gap(s, real[i]) < dense_balls[i] for s in samples for i in range(m))
    coverage = sum(any(gap(s, real[i]) < dense_balls[i] for s in samples) for i in range(m)) / m
    return precision, recall, density / (k_density * n), coverage


@pytest.mark.parametrize("shift", [0.0, 0.8, 3.0])
def test_all_four_are_what_the_loops_say(monkeypatch, shift):
    monkeypatch.setattr("iddpm.evaluation.precision_recall.CHUNK", 13)
    samples, real = points(40, 0, shift), points(50, 1)
    found = manifold(samples, real, precision_neighbors=3, density_neighbors=5)
    wanted = brute_force(samples, real, 3, 5)
    assert tuple(vars(found).values()) == pytest.approx(wanted)


def test_the_same_distribution_is_near_one_and_noise_far_away_is_zero():
    same = manifold(points(600, 0), points(600, 1))
    assert same.precision > 0.85
    assert same.recall > 0.85
    assert 0.9 < same.density < 1.1
    assert same.coverage > 0.9
    far = manifold(points(600, 0, shift=50.0), points(600, 1))
    assert vars(far) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_a_single_mode_has_precision_without_recall():
    real = torch.cat([points(300, 0, -10), points(300, 1, 10)])
    one = manifold(points(600, 2, 10), real)
    assert one.precision > 0.85
    assert one.recall < 0.6
    assert one.coverage < 0.6


def test_too_few_items_are_refused():
    with pytest.raises(ValueError, match="more than 5 items, and there are 5 samples and 9 real"):
        manifold(points(5, 0), points(9, 1))


def test_identical_sets_have_density_one():
    """A ball of the published code holds its center and k - 1 others, not the one on its edge."""
    x = (torch.arange(60.0) ** 3)[:, None]  # exact distances, hardly any twice
    found = manifold(x, x)
    assert found.density == pytest.approx(1.0, abs=0.02)
    assert found.coverage == found.precision == found.recall == 1.0


def test_ties_do_not_count_for_density_and_coverage():
    """On a line of integers the first neighbors lie on the edge of each ball."""
    real = torch.arange(20.0)[:, None]
    found = manifold(real[1:-1:2], real, precision_neighbors=1, density_neighbors=1)
    assert found.density == 1.0  # each sample lies in its own ball alone
    assert found.coverage == len(real[1:-1:2]) / len(real)
    assert found.recall == 1.0  # where ties count
