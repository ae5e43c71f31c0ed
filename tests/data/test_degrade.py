import pytest
import torch

from iddpm.data.degrade import Degradation, add_noise
from iddpm.data.resample import shrink_bicubic, shrink_blur, shrink_box


def data(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


def low(degradation, x, items=(0, 1, 2), seed=0, step=0):
    return degradation(x, items, seed, "test", step)


def test_each_kind_is_its_own():
    x, ring = data(3, 2, 8, 12), (False, True)
    of = {kind: low(Degradation((2, 3), kind, circular=ring), x) for kind in ("box", "bicubic")}
    of["blur"] = low(Degradation((2, 3), "blur", 0.7, circular=ring), x)
    assert torch.equal(of["box"], shrink_box(x, (2, 3)))
    assert torch.equal(of["bicubic"], shrink_bicubic(x, (2, 3), ring))
    assert torch.equal(of["blur"], shrink_blur(x, (2, 3), ring, 0.7))


def test_noise_has_its_size_and_belongs_to_the_item():
    x = data(3, 1, 64, 64)
    plain, noisy = (low(Degradation((2, 2), noise=spread), x) for spread in (0.0, 0.25))
    assert float((noisy - plain).std()) == pytest.approx(0.25, rel=0.05)
    again = Degradation((2, 2), noise=0.25)
    assert torch.equal(low(again, x), noisy)
    assert torch.equal(low(again, x[[2, 0]], items=[2, 0]), noisy[[2, 0]])
    assert not torch.allclose(low(again, x, step=1), noisy)
    assert not torch.allclose(low(again, x, seed=1), noisy)
    assert not torch.allclose(low(again, x, items=[3, 4, 5]), noisy)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_low_resolution_has_the_levels_of_a_file(bits):
    x = data(3, 1, 32)
    plain = low(Degradation((4,), "bicubic", noise=0.8), x)
    found = low(Degradation((4,), "bicubic", noise=0.8, bits=bits), x)
    levels = (found.double() + 1) * (2**bits - 1) / 2
    assert float((levels - levels.round()).abs().max()) < 0.02
    assert float(found.abs().max()) == 1  # clamped
    assert float(plain.abs().max()) > 1
    quiet = low(Degradation((4,), "bicubic", bits=bits), x)
    exact = low(Degradation((4,), "bicubic"), x)
    assert float((quiet - exact).abs().max()) <= 1.01 / (2**bits - 1)


def test_each_item_has_noise_of_its_own_level():
    noise = data(3, 1, 5)
    added = add_noise(torch.zeros(3, 1, 5), torch.tensor([0.0, 0.5, 2.0]), noise)
    assert torch.equal(added, noise * torch.tensor([0.0, 0.5, 2.0])[:, None, None])
