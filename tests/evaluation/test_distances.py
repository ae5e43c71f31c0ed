"""Frechet and kernel distances against closed forms, torchmetrics and brute force."""

import math

import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from iddpm.evaluation.distances import (
    FrechetStats,
    frechet_distance,
    frechet_estimate,
    jackknife_error,
    kernel_distance,
)


def features(count, size, seed, scale=1.0, shift=0.0):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=torch.Generator().manual_seed(99)) / size**0.5
    return (
        scale
        * torch.randn(count, size, generator=generator, dtype=torch.float64)
        @ (mix.double() + torch.eye(size))
        + shift
    )


class Identity(torch.nn.Module):
    """Stands for Inception: its pictures [N, 3, 1, d / 3] are the features already."""

    num_features = 12

    def forward(self, x):
        return x.flatten(1)


def test_gaussians_that_commute_have_a_closed_form():
    a = torch.tensor([1.0, 4.0, 9.0], dtype=torch.float64)
    b = torch.tensor([4.0, 0.25, 9.0], dtype=torch.float64)
    mean = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    turn = torch.linalg.qr(features(3, 3, 5)).Q
    first = FrechetStats(mean, turn @ torch.diag(a) @ turn.T, 100)
    second = FrechetStats(torch.zeros(3).double(), turn @ torch.diag(b) @ turn.T, 100)
    wanted = float((mean**2).sum() + ((a.sqrt() - b.sqrt()) ** 2).sum())
    assert frechet_distance(first, second) == pytest.approx(wanted, rel=1e-12)
    assert frechet_distance(second, first) == pytest.approx(wanted, rel=1e-12)
    assert abs(frechet_distance(first, first)) < 1e-12


def test_singular_covariances_do_not_lose_digits():
    a = torch.diag(torch.tensor([1.0, 1e-14, 0.0]).double())
    b = torch.diag(torch.tensor([0.0, 1e-14, 1.0]).double())
    zero = torch.zeros(3).double()
    distance = frechet_distance(FrechetStats(zero, a, 5), FrechetStats(zero, b, 5))
    assert distance == pytest.approx(2.0, abs=1e-12)


def test_frechet_is_torchmetrics():
    x, y = features(400, 12, 0), features(300, 12, 1, scale=1.3, shift=0.2)
    metric = FrechetInceptionDistance(feature=Identity(), normalize=True, input_img_size=(3, 1, 4))
    metric.update(x.float().reshape(-1, 3, 1, 4), real=True)
    metric.update(y.float().reshape(-1, 3, 1, 4), real=False)
    ours = frechet_distance(FrechetStats.from_features(x), FrechetStats.from_features(y))
    assert ours == pytest.approx(float(metric.compute()), rel=1e-4)


@pytest.mark.parametrize("n", [2, 3, 9, 12, 13])
def test_fewer_items_than_features_have_the_distance_of_their_covariance(n):
    """Both ways to the root, on either side of as many items as features."""
    x = features(n, 12, 0, scale=1.3, shift=0.2)
    reference = FrechetStats.from_features(features(300, 12, 1))
    found = frechet_estimate(x, reference)
    wanted = frechet_distance(FrechetStats.from_features(x), reference)
    # The root of a singular covariance is known to the root of float64's rounding.
    assert found.value == pytest.approx(wanted, rel=1e-7)
    groups = n // 2
    if groups > 1:
        left_out = [
            frechet_distance(
                FrechetStats.from_features(x[torch.arange(n) % groups != k]), reference
            )
            for k in range(groups)
        ]
        assert found.error == pytest.approx(jackknife_error(left_out), rel=1e-6)


def test_kernel_distance_is_torchmetrics_with_one_subset_of_all():
    x, y = features(200, 12, 0), features(200, 12, 1, scale=1.3, shift=0.2)
    metric = KernelInceptionDistance(feature=Identity(), subsets=1, subset_size=200, normalize=True)
    metric.update(x.reshape(-1, 3, 1, 4), real=True)
    metric.update(y.reshape(-1, 3, 1, 4), real=False)
    assert kernel_distance(x, y).value == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_kernel_distance_and_its_error_by_brute_force():
    x, y = features(9, 3, 0), features(7, 3, 1, shift=0.4)

    def statistic(x, y):
        def kernel(a, b):
            return (float(a @ b) / 3 + 1) ** 3

        n, m = len(x), len(y)
        within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
        within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
        between = sum(kernel(a, b) for a in x for b in y)
        return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * between / (n * m)

    found = kernel_distance(x, y)
    assert found.value == pytest.approx(statistic(x, y), rel=1e-10)
    variance = 0.0
    for side in range(2):
        count = len((x, y)[side])
        left = []
        for k in range(count):
            kept = torch.arange(count) != k
            left.append(statistic(x[kept], y) if side == 0 else statistic(x, y[kept]))
        left = torch.tensor(left)
        variance += float((count - 1) / count * ((left - left.mean()) ** 2).sum())
    assert found.error == pytest.approx(math.sqrt(variance), rel=1e-6)


def test_chunks_change_nothing(monkeypatch):
    x, y = features(50, 4, 0), features(45, 4, 1)
    whole = kernel_distance(x, y)
    monkeypatch.setattr("iddpm.evaluation.distances.CHUNK", 7)
    assert kernel_distance(x, y) == pytest.approx(whole)


def test_the_errors_are_the_spread_over_independent_samples():
    reference = FrechetStats.from_features(features(5000, 8, 1000, scale=1.2))
    real = features(800, 8, 1000, scale=1.2)
    frechet = [frechet_estimate(features(600, 8, seed), reference) for seed in range(60)]
    kernel = [kernel_distance(features(300, 8, seed), real) for seed in range(30)]
    for estimates, low, high in ((frechet, 0.75, 1.35), (kernel, 0.6, 1.8)):
        spread = float(torch.tensor([e.value for e in estimates]).std())
        reported = float(torch.tensor([e.error for e in estimates]).mean())
        assert low < reported / spread < high


def test_the_kernel_distance_is_unbiased():
    values = [
        kernel_distance(features(60, 4, s), features(60, 4, s + 500)).value for s in range(80)
    ]
    values = torch.tensor(values)
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(80)


def test_what_cannot_be_compared():
    stats = FrechetStats.from_features(features(10, 3, 0))
    with pytest.raises(ValueError, match="size 4 and of size 3 cannot be compared"):
        frechet_estimate(features(10, 4, 0), stats)
    with pytest.raises(ValueError, match="at least two features, not 1"):
        FrechetStats.from_features(features(1, 3, 0))
    with pytest.raises(ValueError, match="NaN or infinity"):
        FrechetStats.from_features(torch.full((3, 2), math.nan))
    with pytest.raises(ValueError, match=r"\[N, d\]"):
        FrechetStats.from_features(torch.zeros(3, 2, 2))
    with pytest.raises(ValueError, match="at least 2 features, not 1"):
        kernel_distance(features(1, 3, 0), features(5, 3, 0))
    assert math.isnan(frechet_estimate(features(3, 3, 0), stats).error)
