import numpy as np
import pytest
import torch

from iddpm.data.levels import to_model_range, to_stored_range


@pytest.mark.parametrize(("bits", "dtype"), [(8, np.uint8), (16, np.uint16)])
def test_every_level_survives_the_round_trip(bits, dtype):
    levels = np.arange(2**bits).astype(dtype)
    x = to_model_range(levels, bits)
    assert x.dtype == torch.float32
    assert (x[0], x[-1]) == (-1.0, 1.0)
    assert np.array_equal(to_stored_range(x, bits).numpy(), levels)


def test_tensors_and_arrays_agree():
    levels = np.arange(256, dtype=np.uint8)
    assert torch.equal(to_model_range(levels, 8), to_model_range(torch.from_numpy(levels), 8))


def test_floats_pass_unchanged():
    x = np.array([-1.0, 0.25, 1.0])
    assert to_model_range(x, None).tolist() == [-1.0, 0.25, 1.0]


def test_stored_values_are_the_nearest_level_and_clamped():
    half_step = 1 / 255
    x = torch.tensor([-7.0, -1 + 0.9 * half_step, -1 + 1.1 * half_step, 0.999999, 3.0])
    assert to_stored_range(x, 8).tolist() == [0, 0, 1, 255, 255]


@pytest.mark.parametrize("bits", [0, 17, 32])
def test_impossible_depths_are_refused(bits):
    with pytest.raises(ValueError, match=str(bits)):
        to_model_range(np.zeros(1), bits)
