import math

import pytest
import torch

from iddpm.evaluation.fidelity import psnr


def test_known_errors_have_known_decibels():
    truth = torch.zeros(4, 1, 8)
    assert psnr(truth + 0.2, truth).value == pytest.approx(20)  # (2 / 0.2)^2 = 100
    assert psnr(truth + 0.2, truth).error == pytest.approx(0, abs=1e-6)
    assert psnr(truth + 3, truth + 1).value == pytest.approx(126, abs=0.1)  # clamped: exact
    mixed = truth.clone()
    mixed[:2] = 0.2
    assert psnr(mixed, truth).value == pytest.approx(20 + 10 * math.log10(2))


def test_the_error_is_what_many_measurements_scatter_by():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.rand(200, 25, 1, 1, generator=generator) * 0.4
    found = [psnr(size * torch.randn(25, 1, 30, generator=generator), torch.zeros(25, 1, 30))
             for size in sizes]  # fmt: skip
    scatter = torch.tensor([each.value for each in found]).std()
    reported = torch.tensor([each.error for each in found]).mean()
    assert float(reported / scatter) == pytest.approx(1, abs=0.15)
