import itertools
import multiprocessing

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from iddpm.data.augment import Flip, random_crop
from iddpm.data.batches import Batches, Order, held_out_batches
from iddpm.data.sources.arrays import ArraySource, open_array
from iddpm.data.sources.images import ImageFolder


def numbered(count, *, labels=True):
    """Item i is filled with the value i and has the label i % 3."""
    array = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None], (count, 5, 6))
    return ArraySource(
        array.copy(), name="a", layout="NHW", labels=np.arange(count) % 3 if labels else None
    )


def assert_equal(first, second):
    assert first.step == second.step
    assert first.bits == second.bits
    assert torch.equal(first.items, second.items)
    assert torch.equal(first.x, second.x)
    assert (first.y is None and second.y is None) or torch.equal(first.y, second.y)


def test_a_batch_holds_what_it_says():
    batch = Batches(numbered(20), batch_size=7, seed=1)[2]
    assert (batch.x.shape, batch.x.dtype, batch.bits) == ((7, 1, 5, 6), torch.uint8, 8)
    assert (batch.items.dtype, batch.y.dtype) == (torch.int64, torch.int64)
    assert torch.equal(batch.x[:, 0, 0, 0].long(), batch.items)
    assert torch.equal(batch.y, batch.items % 3)
    assert batch.step == 2
    assert Batches(numbered(20, labels=False), batch_size=7, seed=1)[0].y is None


def test_to_gives_floats_once():
    batch = Batches(numbered(200), batch_size=200, seed=1)[0]
    moved = batch.to("cpu")
    assert (moved.x.dtype, moved.bits) == (torch.float32, None)
    assert torch.allclose(moved.x[:, 0, 0, 0], batch.items / 127.5 - 1)
    assert torch.equal(moved.to("cpu").x, moved.x)


@given(n=st.integers(1, 40), seed=st.integers(-5, 2**70), epoch=st.integers(0, 5))
def test_every_epoch_visits_each_item_once(n, seed, epoch):
    order = Order(n, seed)
    assert sorted(order[epoch * n + place] for place in range(n)) == list(range(n))


@given(n=st.integers(1, 40), positions=st.lists(st.integers(0, 200)))
def test_the_order_has_no_memory(n, positions):
    order = Order(n, 3)
    assert [order[p] for p in positions] == [Order(n, 3)[p] for p in positions]


def test_epochs_and_seeds_are_shuffled_differently():
    def drawn(seed, epoch):
        order = Order(50, seed)
        return tuple(order[epoch * 50 + place] for place in range(50))

    orders = [drawn(seed, epoch) for seed in (0, 1, 2**32) for epoch in (0, 1)]
    assert len(set(orders)) == len(orders)
    assert tuple(range(50)) not in orders


@settings(deadline=None, max_examples=25)
@given(count=st.integers(4, 30), batch_size=st.integers(1, 4), start=st.integers(0, 25))
def test_a_resumed_order_is_the_tail_of_a_whole_one(count, batch_size, start):
    def make(first):
        return Batches(
            numbered(count),
            batch_size=batch_size,
            seed=5,
            start_step=first,
            stop_step=26,
            augmentations=[Flip(), random_crop],
        )

    whole, tail = list(make(0)), list(make(start))
    assert [batch.step for batch in tail] == list(range(start, 26))
    for first, second in zip(whole[start:], tail, strict=True):
        assert_equal(first, second)


def test_batches_run_on_over_the_end_of_an_epoch():
    batches = Batches(numbered(10), batch_size=4, seed=0, stop_step=5)
    items = torch.cat([batch.items for batch in batches]).tolist()
    assert sorted(items[:10]) == sorted(items[10:]) == list(range(10))


def test_only_chosen_items_come():
    chosen = np.array([3, 11, 17, 19])
    batches = Batches(numbered(20), items=chosen, batch_size=4, seed=0, stop_step=3)
    for batch in batches:
        assert sorted(batch.items.tolist()) == chosen.tolist()


def test_without_a_stop_it_goes_on():
    batches = Batches(numbered(4), batch_size=4, seed=0, start_step=7)
    assert [batch.step for batch in itertools.islice(batches, 30)] == list(range(7, 37))


def test_a_second_iteration_starts_again():
    batches = Batches(numbered(9), batch_size=4, seed=0, start_step=2, stop_step=5)
    for first, second in zip(batches, batches, strict=True):
        assert_equal(first, second)


def test_augmentation_depends_on_the_position_not_the_item():
    ramp = np.arange(30, dtype=np.uint8).reshape(1, 5, 6)
    batches = Batches(
        ArraySource(ramp, name="a", layout="NHW"),
        batch_size=1,
        seed=0,
        stop_step=40,
        augmentations=[Flip()],
    )
    flipped = [bool(batch.x[0, 0, 0, 0] == 5) for batch in batches]
    assert 8 < sum(flipped) < 32
    assert (ramp[0, 0] == np.arange(6)).all()  # the source is untouched


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(Batches(numbered(9), batch_size=4, seed=0, stop_step=3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture
def _spawned():
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("_spawned")
def test_spawned_workers_give_the_same_batches(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (50, 40, 40), np.uint8)
    np.savez(tmp_path / "a.npz", array, np.arange(50) % 5)

    def drawn(workers):
        return list(
            Batches(
                open_array(tmp_path / "a.npz"),
                batch_size=8,
                seed=2,
                start_step=3,
                stop_step=12,
                workers=workers,
                augmentations=[Flip(), random_crop],
            )
        )

    for first, second in zip(drawn(0), drawn(2), strict=True):
        assert_equal(first, second)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named_in_one_line_and_workers_close_at_once(workers, tmp_path):
    for index in range(4):
        Image.new("L", (50, 50)).save(tmp_path / f"{index}.png")
    content = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(content[:-30])
    batches = Batches(ImageFolder(tmp_path), batch_size=4, seed=0, workers=workers)
    with pytest.raises(ValueError, match=r"2\.png is damaged") as caught:
        list(batches)
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch_size is 5 but there are only 4 training items"):
        Batches(numbered(9), items=[0, 1, 2, 3], batch_size=5, seed=0)
    with pytest.raises(ValueError, match="has no items left"):
        Batches(numbered(9), items=[], batch_size=1, seed=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"batch_size": 2, "workers": -1}, "workers is -1"),
        ({"batch_size": 2, "items": [3, 9]}, "from 3 to 9 but a has 9"),
        ({"batch_size": 2, "items": [-1, 3]}, "from -1 to 3"),
        ({"batch_size": 2, "items": np.ones(9, bool)}, "not a mask"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Batches(numbered(9), seed=0, **arguments)


def test_held_out_batches_go_once_in_order_with_the_tail():
    batches = list(held_out_batches(numbered(20), [9, 2, 5, 7, 1], batch_size=2))
    assert [batch.items.tolist() for batch in batches] == [[9, 2], [5, 7], [1]]
    assert [batch.x[:, 0, 0, 0].tolist() for batch in batches] == [[9, 2], [5, 7], [1]]
    assert [batch.y.tolist() for batch in batches] == [[0, 2], [2, 1], [1]]
    assert [batch.step for batch in batches] == [0, 1, 2]
    shares = [
        [(batch.step, batch.items.tolist()) for batch in
         held_out_batches(numbered(20), [9, 2, 5, 7, 1], batch_size=2, turns=slice(rank, None, 2))]
        for rank in range(2)
    ]  # fmt: skip
    assert shares == [[(0, [9, 2]), (2, [1])], [(1, [5, 7])]]
    everything = held_out_batches(numbered(20), batch_size=8)
    assert torch.cat([batch.items for batch in everything]).tolist() == list(range(20))
