"""Structural similarity against another library's, in every dimension."""

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure as others

from iddpm.evaluation.similarity import ssim


def pair(*shape, noise=0.2):
    generator = torch.Generator().manual_seed(0)
    truth = (torch.randn(shape, generator=generator).cumsum(dim=-1) * 0.2).clamp(-1, 1)
    return (truth + noise * torch.randn(shape, generator=generator)).clamp(-1, 1), truth


def theirs(x, truth):
    """Return torchmetrics' map, averaged where its window does not reach mirrored data."""
    options = {"data_range": 2.0, "reduction": "none", "return_full_image": True}
    _, full = others(x.double() + 1, truth.double() + 1, **options)
    inner = slice(5, -5)
    return full[(slice(None), slice(None), *[inner] * (x.dim() - 2))].flatten(1).mean(dim=1)


@pytest.mark.parametrize("shape", [(3, 2, 20, 24), (2, 1, 14, 13, 16)])
def test_it_is_that_of_torchmetrics_in_2_and_3_dimensions(shape):
    x, truth = pair(*shape)
    wanted = theirs(x, truth)
    found = ssim(x, truth)
    assert found.value == pytest.approx(float(wanted.mean()), abs=1e-6)
    assert found.error == pytest.approx(float(wanted.std()) / len(x) ** 0.5, abs=1e-6)


def test_a_signal_has_that_of_a_picture_that_is_the_same_in_every_row():
    x, truth = pair(3, 2, 40)
    rows = [v[:, :, None].expand(-1, -1, 16, -1).double() for v in (x, truth)]
    assert ssim(x, truth).value == pytest.approx(float(theirs(*rows).mean()), abs=1e-6)


def test_small_data_has_a_smaller_window_and_the_same_is_alike():
    x, truth = pair(4, 1, 4, 5)
    assert ssim(truth, truth).value == pytest.approx(1)
    assert 0 < ssim(x, truth).value < ssim(0.9 * truth + 0.1 * x, truth).value < 1
    # 3 x 5 taps: by hand at the only column.
    wide = [v[..., :3, :5].double() for v in (x, truth)]
    rows, columns = (torch.exp(-0.5 * (torch.arange(-r, r + 1) / 1.5) ** 2) for r in (1, 2))
    weights = torch.outer(rows / rows.sum(), columns / columns.sum()).double()

    def mean(v):
        return (v * weights).sum(dim=(-1, -2))

    a, b = (v + 1 for v in wide)  # levels from 0 on
    cov = mean(a * b) - mean(a) * mean(b)
    spread = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    by_hand = (2 * mean(a) * mean(b) + 4e-4) * (2 * cov + 36e-4)
    by_hand = by_hand / ((mean(a) ** 2 + mean(b) ** 2 + 4e-4) * (spread + 36e-4))
    assert ssim(*wide).value == pytest.approx(float(by_hand.mean()), abs=1e-6)
