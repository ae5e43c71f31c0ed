import pytest
import torch

from iddpm.evaluation.sampled_bound import (
    inclusion,
    item_offsets,
    pilot_positions,
    sizes_from_pilot,
    systematic,
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
