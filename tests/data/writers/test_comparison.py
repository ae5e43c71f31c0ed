import numpy as np
import torch
from PIL import Image

from iddpm.data.writers.comparison import save_side_by_side, side_by_side


def test_low_resolutions_are_repeated_and_followed_by_what_they_become():
    low_res, a, b = torch.rand(2, 1, 2, 3), torch.rand(2, 1, 4, 6), torch.rand(2, 1, 4, 6)
    found = side_by_side(low_res, a, b)
    assert found.shape == (6, 1, 4, 6)
    assert torch.equal(found[0::3, ..., ::2, ::2], low_res)
    assert torch.equal(found[0::3, ..., 1::2, 1::2], low_res)
    assert torch.equal(found[1::3], a)
    assert torch.equal(found[2::3], b)


def test_clips_stand_below_each_other(tmp_path):
    """Three frames of 64 x 64 in a row, and their low resolution above."""
    low_res, x = torch.rand(1, 1, 3, 32, 32), torch.rand(1, 1, 3, 64, 64)
    sizes = []
    for film in (True, False):
        path = save_side_by_side(tmp_path / f"{film}.png", low_res, x, film=film)
        sizes.append(np.asarray(Image.open(path)).shape)
    assert sizes[0][0] > 2 * 64
    assert sizes[0][1] >= 3 * 64
    assert sizes[1][0] < 2 * 64
