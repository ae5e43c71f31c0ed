import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iddpm.data.sources.arrays import ArraySource
from iddpm.data.sources.source import Source
from iddpm.data.split import groups_of, held_out_mask


class Named(Source):
    def __init__(self, keys):
        self.keys = keys

    def __len__(self):
        return len(self.keys)

    def read(self, index):
        raise AssertionError("splitting must not read items")

    def key(self, index):
        return self.keys[index]

    def stamps(self):
        raise AssertionError("splitting must not look at files")


def verdicts(keys, fraction):
    return dict(zip(keys, held_out_mask(Named(keys), fraction).tolist(), strict=True))


@given(
    keys=st.lists(st.text(), unique=True, min_size=1),
    more=st.lists(st.text(), unique=True),
    fraction=st.floats(0, 1, exclude_max=True),
    data=st.data(),
)
def test_other_items_and_their_order_move_nobody(keys, more, fraction, data):
    before = verdicts(keys, fraction)
    everything = data.draw(st.permutations(sorted({*keys, *more})))
    after = verdicts(everything, fraction)
    assert {key: after[key] for key in keys} == before


def test_the_fraction_is_about_right():
    mask = held_out_mask(Named([f"{i}.png" for i in range(20_000)]), 0.1)
    assert mask.dtype == np.bool_
    assert abs(mask.mean() - 0.1) < 0.01


def test_a_larger_fraction_only_adds():
    keys = [str(i) for i in range(1000)]
    small, large = held_out_mask(Named(keys), 0.1), held_out_mask(Named(keys), 0.3)
    assert (small <= large).all()
    assert large.sum() > small.sum()


def test_zero_holds_nothing_out():
    assert not held_out_mask(Named([str(i) for i in range(1000)]), 0.0).any()


def test_the_split_is_the_same_everywhere():
    # Written down once: a change here would let old test items into new training.
    source = ArraySource(np.zeros((40, 3), np.uint8), name="a")
    assert np.flatnonzero(held_out_mask(source, 0.1)).tolist() == [3, 9, 16, 21, 38]


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction"):
        held_out_mask(Named(["a"]), fraction)


@pytest.mark.parametrize("rule", ["folder", "[^_]+", r"p\d+", r"(p\d+)_s"])
def test_groups_are_never_parted(rule):
    source = Named(
        [f"{patient:02}/p{patient:02}_s{k}.png" for patient in range(40) for k in range(5)]
    )
    mask = held_out_mask(source, 0.3, groups_of(rule, source)).reshape(40, 5)
    assert (mask == mask[:, :1]).all()
    assert 4 <= mask[:, 0].sum() <= 20
    assert not (held_out_mask(source, 0.3).reshape(40, 5) == mask).all()


@pytest.mark.parametrize(("rule", "words"), [("(", "neither folder, nor"), ("q", "does not match")])
def test_a_group_that_cannot_be_found_is_refused(rule, words):
    with pytest.raises(ValueError, match=words):
        groups_of(rule, Named(["p1_a.png"]))
