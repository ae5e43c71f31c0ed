import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from iddpm.builders.run_data import without_some_labels
from iddpm.config import read_config
from iddpm.data.batches import Batch
from iddpm.runtime.processes import ALONE
from tests.conftest import TINY

COUNT = 4000
CONDITIONS = "model.conditions={a: {kind: number, range: [0, 1]}, b: {kind: class, names: [f, m]}}"
ONE = "model.conditions={a: {kind: number, range: [0, 1]}}"


def batch(columns, step=3):
    x = torch.zeros(COUNT, 1, 1)
    return Batch(
        x, torch.ones(COUNT, dtype=torch.int64), torch.arange(COUNT), step, None,
        torch.ones(COUNT, columns) if columns else None,
    )  # fmt: skip


def hidden(settings, columns, step=3):
    """Which classes and which conditions are hidden."""
    config = read_config(None, [*TINY, "training.label_dropout=0.2", *settings])
    (out,) = without_some_labels([batch(columns, step)], config)
    unknown = None if out.conditions is None else out.conditions.isnan().numpy()
    return (out.y == -1).numpy(), unknown


def test_a_share_of_the_items_loses_all_and_each_condition_is_left_out_by_itself():
    y, unknown = hidden(["model.class_conditional=true", CONDITIONS], 2)
    assert np.mean(y) == pytest.approx(0.2, abs=0.03)
    assert unknown[y].all()
    for column in unknown[~y].T:
        assert np.mean(column) == pytest.approx(0.2, abs=0.03)
    assert np.mean(unknown[~y].all(axis=1)) == pytest.approx(0.04, abs=0.015)
    same, other = (hidden(["model.class_conditional=true", CONDITIONS], 2, step) for step in (3, 4))
    assert np.array_equal(same[1], unknown)
    assert not np.array_equal(other[1], unknown)


def test_classes_are_hidden_as_ever_and_a_single_condition_like_them():
    alone = hidden(["model.class_conditional=true"], 0)[0]
    together = hidden(["model.class_conditional=true", CONDITIONS], 2)[0]
    single = hidden([ONE], 1)
    assert np.array_equal(alone, together)
    assert np.array_equal(alone, single[1][:, 0])
    assert not single[0].any()  # there is no class, so none is hidden


def test_what_is_not_known_stays_so_and_no_dropout_hides_nothing():
    config = read_config(None, [*TINY, "training.label_dropout=0", CONDITIONS])
    given = batch(2)
    given.conditions[0, 1] = math.nan
    (out,) = without_some_labels([given], config)
    assert int(out.conditions.isnan().sum()) == 1
    config = read_config(None, [*TINY, "training.label_dropout=0.5", CONDITIONS])
    (out,) = without_some_labels([given], config)
    assert bool(out.conditions[0, 1].isnan())


def test_ranks_hide_what_one_alone_would():
    class Second:
        count = 2

        def share(self, n):
            return slice(n // 2, n)

    config = read_config(None, [*TINY, "model.class_conditional=true", CONDITIONS])
    whole = batch(2)
    half = replace(
        whole, x=whole.x[COUNT // 2 :], y=whole.y[COUNT // 2 :],
        conditions=whole.conditions[COUNT // 2 :],
    )  # fmt: skip
    (alone,) = without_some_labels([whole], config, ALONE)
    (second,) = without_some_labels([half], config, Second())
    assert torch.equal(second.y, alone.y[COUNT // 2 :])
    assert torch.equal(second.conditions.isnan(), alone.conditions[COUNT // 2 :].isnan())
