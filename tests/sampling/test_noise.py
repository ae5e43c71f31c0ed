import pytest
import torch

from iddpm.sampling import SampleNoise


@pytest.mark.parametrize("shape", [(1, 5), (3, 4, 4), (1, 2, 3, 4)])
def test_an_image_has_its_noise_whatever_the_batch(shape):
    whole = SampleNoise(7, (8, *shape))
    part = SampleNoise(7, (3, *shape), start=3)
    one = SampleNoise(7, (1, *shape), start=5)
    draws = [lambda n: n.initial(), lambda n: n(0), lambda n: n(1), lambda n: n(999)]
    for draw in draws:
        assert draw(whole).shape == (8, *shape)
        assert draw(whole).dtype == torch.float32
        assert torch.equal(draw(whole)[3:6], draw(part))
        assert torch.equal(draw(whole)[5:6], draw(one))
        assert torch.equal(draw(whole), draw(whole))  # asking twice changes nothing


def test_it_does_not_touch_the_global_generator():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    SampleNoise(0, (2, 3)).initial()
    assert torch.equal(torch.get_rng_state(), before)


def test_images_steps_and_seeds_are_strangers():
    """Every pair of draws, seeds 2**32 apart included, is uncorrelated."""
    size = 4096
    rows = []
    for seed in (1, 2, 1 + 2**32, -1, 2**63):
        noise = SampleNoise(seed, (2, size))
        rows += [*noise.initial(), *noise(0), *noise(1), *noise(256)]
    correlation = torch.corrcoef(torch.stack(rows).double())
    correlation.fill_diagonal_(0)
    assert correlation.abs().max() < 5.5 / size**0.5


def test_the_noise_is_normal():
    draws = torch.cat([SampleNoise(3, (50, 1000), start=50 * k)(k).flatten() for k in range(4)])
    x = draws.double()
    n = len(x)
    assert abs(float(x.mean())) < 5 / n**0.5
    assert abs(float((x**2).mean()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float((x**3).mean())) < 5 * (15 / n) ** 0.5
    assert abs(float((x**4).mean()) - 3) < 5 * (96 / n) ** 0.5
    ordered = torch.special.ndtr(x.sort().values)
    grid = (torch.arange(n) + 0.5) / n
    assert (ordered - grid).abs().max() < 2.2 / n**0.5  # Kolmogorov-Smirnov, p about 1e-4
