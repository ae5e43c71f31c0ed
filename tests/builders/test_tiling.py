"""Which tiles a low resolution of any size is drawn as."""

import pytest
import torch

from iddpm.builders import build_tiling, resolve
from iddpm.config import read_config
from iddpm.data.resample import shrink_box
from tests.conftest import TINY


def config(size, *more):
    base = [*TINY, "task=super_resolution", "model.channels=1", f"model.size={size}"]
    return resolve(read_config(None, [*base, *more]))


def test_what_is_smaller_than_a_tile_is_mirrored_and_cut_off_again():
    tiling = build_tiling(config([12, 8], "scale=2"), (3, 9), 0.25)
    assert (tiling.low_res, tiling.before, tiling.size, tiling.tile) == (
        (6, 9), (1, 0), (12, 18), (12, 8)
    )  # fmt: skip
    x = torch.arange(6.0)[:, None].expand(6, 18)[None, None]
    low_res = shrink_box(x, (2, 2))
    padded = tiling.pad(low_res)
    assert padded[0, 0, :, 0].tolist() == [0.5, 0.5, 2.5, 4.5, 4.5, 2.5]
    # The mirrored data has the mirrored low resolution, and the middle is what it was.
    mirrored = torch.cat([x.flip(2)[:, :, -2:], x, x.flip(2)[:, :, :4]], dim=2)
    assert torch.equal(shrink_box(mirrored, (2, 2)), padded)
    assert torch.equal(tiling.crop(mirrored), x)


def test_it_is_mirrored_as_often_as_it_takes():
    tiling = build_tiling(config([16], "scale=2"), (3,), 0.25)
    assert tiling.pad(torch.tensor([[[1.0, 2, 3]]])).flatten().tolist() == [2, 1, 1, 2, 3, 3, 2, 1]
    tiling = build_tiling(config([16], "scale=2"), (1,), 0.25)
    assert tiling.pad(torch.tensor([[[5.0]]])).flatten().tolist() == [5] * 8


def test_a_tile_of_a_periodic_axis_is_the_whole_ring():
    wrapped = config([8, 8], "scale=2", "model.circular=[false,true]")
    tiling = build_tiling(wrapped, (16, 30), 0.25)
    assert (tiling.tile, tiling.size) == ((8, 60), (32, 60))
    assert build_tiling(wrapped, (2, 3), 0.25).low_res == (4, 3)  # a ring has no end to mirror
    with pytest.raises(ValueError, match="3 along the periodic axis 1, which the 2 levels divide"):
        build_tiling(config([8, 8], "scale=[2,1]", "model.circular=true"), (4, 3), 0.25)
    waves = config([8, 8], "scale=[2,1]", "model.circular=true", "model.wavelets=1")
    with pytest.raises(ValueError, match="halves each axis 1 times, and the data is 8 x 3"):
        build_tiling(waves, (4, 3), 0.25)


def test_batches_of_tiles_are_counted_as_they_come():
    tiling = build_tiling(config([8], "scale=2"), (10,), 0.25)
    assert tiling.count == 3  # 20 values in tiles of 8 that move by 6 at the most
    assert [tiling.batches(n, 64) for n in (1, 21, 22, 43)] == [1, 1, 2, 3]
    assert [tiling.batches(n, 2) for n in (1, 5)] == [2, 10]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="low_res has 1 spatial axes, and the training data"):
        build_tiling(config([8, 8], "scale=2"), (10,), 0.25)
    with pytest.raises(ValueError, match="overlap=1 is a share of a tile"):
        build_tiling(config([8], "scale=2"), (10,), 1.0)
