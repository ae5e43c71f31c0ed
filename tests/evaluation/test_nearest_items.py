"""Nearest training items, and who learned by heart."""

import pytest
import torch

from iddpm.evaluation.nearest_items import Nearest, memorization, search


def blobs(count, seed):
    """Smooth random pictures [N, 1, 8, 8]: items resemble one another as digits do."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 1, 3, 3, generator=generator)
    x = torch.nn.functional.interpolate(coarse, (8, 8), mode="bilinear")
    return (x + 0.05 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def batches(training, size):
    """The training items part by part, each with the number of its first."""
    return [(start, training[start : start + size]) for start in range(0, len(training), size)]


def judge(samples, training, held_out):
    return memorization(*search([samples, held_out], batches(training, 37)))


def test_nearest_items_by_brute_force():
    queries, training = blobs(20, 0), blobs(100, 1)
    found = search([queries], batches(training, 7))[0]
    distances = torch.stack(
        [((q - training) ** 2).flatten(1).mean(dim=1).sqrt() for q in queries]
    ).double()
    two = distances.topk(2, largest=False)
    torch.testing.assert_close(found.distance, two.values[:, 0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.ratio, two.values[:, 0] / two.values[:, 1], rtol=1e-4, atol=0)
    assert torch.equal(found.item, two.indices[:, 0])
    five = search([queries], batches(training, 7), count=5)[0]
    expected = distances.topk(5, largest=False)
    torch.testing.assert_close(five.distances, expected.values, rtol=1e-4, atol=1e-6)
    assert torch.equal(five.items, expected.indices)


def test_copies_are_flagged_and_new_items_are_not():
    training, held_out, fresh = blobs(1000, 1), blobs(200, 2), blobs(500, 3)
    noise = 0.02 * torch.randn(500, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    copied = judge(training[:500] + noise, training, held_out)
    assert copied.flagged
    assert copied.copies > 0.9
    new = judge(fresh, training, held_out)
    assert not new.flagged
    assert new.copies <= new.limit
    # A fifth of copies among new items is enough.
    some = torch.cat([training[:100] + noise[:100], fresh[:400]])
    assert judge(some, training, held_out).flagged


def test_held_out_items_judged_by_others_of_them_are_not_flagged():
    training, held_out = blobs(1000, 1), blobs(400, 2)
    assert not judge(held_out[:200], training, held_out[200:]).flagged


def test_what_is_typical_is_near_without_being_a_copy():
    training, held_out = blobs(1000, 1), blobs(200, 2)
    typical = 0.3 * blobs(500, 3)  # little contrast: nearer to everything than real items are
    judged = judge(typical, training, held_out)
    assert judged.near > 0.15
    assert not judged.flagged


def test_too_few_held_out_items_say_nothing():
    training = blobs(100, 1)
    assert judge(training[:10], training, blobs(49, 2)) is None
    with pytest.raises(ValueError, match="at least 2 items, not 1"):
        search([training], [(0, training[:1])])


def test_a_copy_is_both_near_and_nearer_to_one_item_than_to_the_next():
    def nearest(distance, ratio):
        first = torch.tensor(distance)
        both = torch.stack([first, first / torch.tensor(ratio)], dim=1)
        return Nearest(both, torch.zeros_like(both))

    held_out = nearest([1.0] * 100, [0.9] * 100)
    samples = nearest([0.5, 0.5, 2.0, 2.0], [0.1, 1.0, 0.1, 1.0])
    judged = memorization(samples, held_out)
    assert judged.near == 0.5
    assert judged.copies == 0.25
