"""The spread of samples against their error, and distances between a network's stages."""

import pytest
import torch

from iddpm.evaluation.calibration import calibration
from iddpm.evaluation.perceptual import stage_distance


def drawn(count, spread=1.0, items=400):
    """Return the mean and variance of samples around unknown means, and the truth."""
    generator = torch.Generator().manual_seed(count)
    center = torch.randn(items, 1, 12, generator=generator)
    truth = center + 0.3 * torch.randn(items, 1, 12, generator=generator)
    noise = torch.randn(count, items, 1, 12, generator=generator)
    samples = center + 0.3 * spread * noise
    return samples.mean(dim=0), samples.var(dim=0), truth


@pytest.mark.parametrize("count", [2, 8])
def test_samples_from_the_distribution_of_the_truth_are_calibrated(count):
    mean, variance, truth = drawn(count)
    found = calibration(mean, variance, truth, count)
    assert found.expected.value == pytest.approx(0.09 * (1 + 1 / count), rel=0.05)
    assert abs(found.ratio.value - 1) < 4 * found.ratio.error
    assert found.ratio.error < 0.05
    assert found.ratio.value == pytest.approx(found.error.value / found.expected.value)


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_too_little_and_too_much_spread_are_distinguished(spread):
    """Samples of another spread s err by the truth's variance plus s squared over n."""
    mean, variance, truth = drawn(8, spread)
    found = calibration(mean, variance, truth, 8)
    wanted = (1 + spread**2 / 8) / (spread**2 * (1 + 1 / 8))
    assert abs(found.ratio.value - wanted) < 4 * found.ratio.error


def test_the_error_of_the_ratio_is_what_it_scatters_by():
    found = []
    for seed in range(150):
        generator = torch.Generator().manual_seed(seed)
        scale = 0.2 + torch.rand(30, 1, 1, generator=generator)  # items differ in difficulty
        samples = scale * torch.randn(4, 30, 1, 5, generator=generator)
        truth = scale * torch.randn(30, 1, 5, generator=generator)
        found.append(calibration(samples.mean(dim=0), samples.var(dim=0), truth, 4).ratio)
    scatter = float(torch.tensor([each.value for each in found]).std())
    reported = float(torch.tensor([each.error for each in found]).mean())
    assert reported / scatter == pytest.approx(1, abs=0.2)


def test_stages_count_alike_whatever_their_size_and_length():
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    first = [a.reshape(1, 2, 1).expand(3, 2, 5), 7 * a.reshape(1, 2, 1, 1).expand(3, 2, 2, 2)]
    second = [9 * a.reshape(1, 2, 1).expand(3, 2, 5), b.reshape(1, 2, 1, 1).expand(3, 2, 2, 2)]
    assert stage_distance(first, second).tolist() == pytest.approx([1, 1, 1])  # of 0 and 2
    assert stage_distance(first, first).tolist() == [0, 0, 0]
