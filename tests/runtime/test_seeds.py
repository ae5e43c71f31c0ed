import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from iddpm.runtime.seeds import normal, stream, torch_seed

ADDRESS = {"seed": 1, "purpose": "noise", "step": 2, "index": 3}
NEIGHBORS = [
    {"seed": 2},
    {"seed": 1 + 2**32},
    {"seed": 1 + 2**64},
    {"seed": -1},
    {"purpose": "timestep"},
    {"step": 3},
    {"step": 2 + 2**32},
    {"index": 2},
    {"index": 3 + 2**40},
    {"step": 3, "index": 2},
]


def draw(**address):
    return stream(**address).standard_normal(2000)


def test_the_same_address_draws_the_same():
    assert np.array_equal(draw(**ADDRESS), draw(**ADDRESS))
    assert torch_seed(**ADDRESS) == torch_seed(**ADDRESS)


@pytest.mark.parametrize("change", NEIGHBORS, ids=str)
def test_a_neighbor_is_a_stranger(change):
    other = {**ADDRESS, **change}
    assert abs(np.corrcoef(draw(**ADDRESS), draw(**other))[0, 1]) < 0.1
    assert torch_seed(**ADDRESS) != torch_seed(**other)
    # What torch's CPU generator keeps of a seed differs too.
    assert torch_seed(**ADDRESS) % 2**32 != torch_seed(**other) % 2**32


def test_a_batch_of_normal_numbers_is_its_items_streams():
    batch = normal(1, "noise", (4, 2, 3), step=2, start=5)
    assert batch.dtype == np.float32
    for k in range(4):
        alone = normal(1, "noise", (1, 2, 3), step=2, start=5 + k)
        assert np.array_equal(batch[k : k + 1], alone)
        own = stream(1, "noise", step=2, index=5 + k).standard_normal((2, 3), dtype=np.float32)
        assert np.array_equal(batch[k], own)
    assert normal(1, "noise", (0, 2)).shape == (0, 2)


def test_the_fields_do_not_run_into_each_other():
    assert torch_seed(1, "a", step=12, index=3) != torch_seed(1, "a", step=1, index=23)
    assert torch_seed(11, "a") != torch_seed(1, "1a")


def test_another_process_draws_the_same():
    """Nothing may depend on Python's own hash of strings, which changes with every process."""
    code = (
        "from iddpm.runtime.seeds import torch_seed; print(torch_seed(1, 'noise', step=2, index=3))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) == torch_seed(**ADDRESS)


def test_the_numbers_are_these():
    """Runs that are resumed with a later version draw what the earlier one drew."""
    assert torch_seed(0, "noise") == 8_196_476_955_374_108_184
    assert stream(0, "noise").integers(0, 2**32, 3).tolist() == [
        3_385_966_620,
        311_340_969,
        1_595_984_880,
    ]


@settings(deadline=None)
@given(st.integers(), st.text(max_size=8), st.integers(0), st.integers(0))
def test_every_address_gives_a_seed_that_torch_takes(seed, purpose, step, index):
    value = torch_seed(seed, purpose, step=step, index=index)
    assert 0 <= value < 2**63
    torch.Generator().manual_seed(value)
    stream(seed, purpose, step=step, index=index).random()
