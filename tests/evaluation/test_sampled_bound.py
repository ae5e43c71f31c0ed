import math

import numpy as np
import pytest
import torch

from iddpm.evaluation.sampled_bound import (
    effective_items,
    heavy_tailed_error,
    inclusion,
    item_offsets,
    pilot_positions,
    sizes_from_pilot,
    systematic,
    warn_of_heavy_tails,
)

SIZES = {
    "even": torch.ones(50),
    "falling": torch.arange(50, 0, -1).float(),
    "steep": 1 / (1 + torch.arange(50.0)) ** 2,
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("count", [2, 3, 10, 49, 50])
def test_each_step_is_drawn_with_its_probability(name, count):
    """Over all offsets, exactly, and never twice for one item."""
    probability = inclusion(SIZES[name].double(), count)
    assert probability.sum().item() == pytest.approx(count)
    assert float(probability.max()) <= 1
    assert float(probability.min()) > 0
    assert float(probability[0]) == 1
    inner = probability.cumsum(0)[:-1] % 1
    changes = torch.cat([inner, torch.zeros(1).double(), torch.ones(1).double()]).unique()
    lengths = changes.diff()
    drawn = systematic(probability, (changes[:-1] + changes[1:]) / 2)
    assert drawn.shape == (len(lengths), count)
    frequency = torch.zeros(50, dtype=torch.float64)
    for row, length in zip(drawn, lengths, strict=True):
        assert len(row.unique()) == count
        frequency[row] += length
    assert torch.allclose(frequency, probability, atol=1e-9)


def test_sizes_in_proportion_to_the_terms_leave_no_error():
    terms = SIZES["falling"].double()
    probability = inclusion(terms, 8)
    offsets = torch.linspace(0, 0.999, 100).double()
    drawn = systematic(probability, offsets)
    estimates = (terms[drawn] / probability[drawn]).sum(dim=1)
    assert torch.allclose(estimates, terms.sum().expand(100), rtol=1e-9)
    even = inclusion(torch.ones(50).double(), 8)
    drawn = systematic(even, offsets)
    assert float((terms[drawn] / even[drawn]).sum(dim=1).std()) > 10


def test_one_step_and_a_process_of_one():
    assert inclusion(torch.ones(1).double(), 1).tolist() == [1]
    assert systematic(torch.ones(1).double(), torch.tensor([0.7]).double()).tolist() == [[0]]


def test_an_offset_belongs_to_its_item():
    offsets = item_offsets(0, range(1000))
    assert torch.equal(item_offsets(0, [5, 3]), offsets[[5, 3]])
    assert not torch.equal(item_offsets(1, range(1000)), offsets)
    assert float(offsets.mean()) == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("steps", [1, 2, 3, 50, 4000])
def test_a_pilot_looks_at_both_ends(steps):
    positions = pilot_positions(steps, 32)
    assert positions[0] == 0
    assert positions[-1] == steps - 1
    assert positions == sorted(set(positions))
    assert len(positions) <= 34
    sizes = sizes_from_pilot(positions, torch.ones(len(positions)).double(), steps)
    assert sizes.shape == (steps,)
    assert torch.allclose(sizes, sizes[:1].expand(steps))


def test_no_step_is_taken_for_nothing():
    """A pilot that saw zeros may be wrong: each step keeps a tenth of an even share."""
    positions = pilot_positions(100, 8)
    moments = torch.zeros(len(positions)).double()
    moments[:2] = 1.0
    sizes = sizes_from_pilot(positions, moments, 100)
    assert float(sizes.min()) >= 0.1 / 99


def estimates(tail, items, seeds=300, steps=100, looks=6):
    """Yield a mean's distance to the truth and the values behind it, of terms with heavy tails.

    The terms of a step are its mean times a log-normal factor: as those of a learned variance that
    is far too small for some items.
    """
    generator = torch.Generator().manual_seed(0)
    means = 0.5 * torch.exp(-torch.linspace(0, 4, steps, dtype=torch.float64)) + 0.002

    def terms(count):
        normal = torch.randn(count, steps, generator=generator, dtype=torch.float64)
        return means * torch.exp(tail * normal - tail**2 / 2)

    for _ in range(seeds):
        places = pilot_positions(steps, 16)
        size = sizes_from_pilot(places, terms(16)[:, places].square().mean(dim=0), steps)
        probability = inclusion(size, looks)
        offsets = torch.rand(items, generator=generator, dtype=torch.float64)
        drawn = systematic(probability, offsets)
        values = (terms(items).gather(1, drawn) / probability[drawn]).sum(dim=1)
        yield float(values.mean() - means.sum()), values


def spread_of_z(distances, errors):
    return float(np.sqrt(np.mean(np.square(np.array(distances) / np.array(errors)))))


@pytest.mark.parametrize(("tail", "items"), [(2.0, 64), (2.0, 256), (1.5, 64)])
def test_the_error_holds_for_heavy_tails(tail, items):
    distances, values = zip(*estimates(tail, items), strict=True)
    plain = spread_of_z(distances, [float(v.std()) / math.sqrt(items) for v in values])
    ours = spread_of_z(distances, [heavy_tailed_error(v) for v in values])
    assert plain > 1.2
    assert ours < 0.85 * plain
    said = [warn_of_heavy_tails(v) is not None for v in values]
    assert np.mean(said) > 0.5  # what is left of it is said


def test_the_error_of_light_tails_stays_as_it_is():
    distances, values = zip(*estimates(0.1, 64), strict=True)
    assert 0.85 < spread_of_z(distances, [heavy_tailed_error(v) for v in values]) < 1.15
    widened = [heavy_tailed_error(v) * 8 / float(v.std()) for v in values]
    assert np.median(widened) < 1.05
    assert not any(warn_of_heavy_tails(v) for v in values)


def test_effective_items_in_closed_form():
    assert effective_items(torch.tensor([1.0, -1.0, 1.0, -1.0])) == pytest.approx(4)
    one = torch.zeros(1000)
    one[3] = 1
    assert effective_items(one) == pytest.approx(1, rel=1e-2)
    assert "about 1.0 of 1000 items" in warn_of_heavy_tails(one)
    # Kurtosis n - 2 + 1 / (n - 1) of one among n.
    kurtosis = 1000 - 2 + 1 / 999
    wanted = (
        float(one.std()) / math.sqrt(1000) * math.sqrt(1 + 2 * math.sqrt((kurtosis - 3) / 1000))
    )
    assert heavy_tailed_error(one) == pytest.approx(wanted, rel=1e-6)
    assert math.isnan(heavy_tailed_error(torch.ones(1)))
    assert heavy_tailed_error(torch.ones(5)) == 0
    assert warn_of_heavy_tails(torch.ones(5)) is None
    assert warn_of_heavy_tails(torch.ones(1)) is None
