"""From data of a form to samples of the same form, by training and drawing."""

import numpy as np
import pytest

from iddpm.config import read_config
from iddpm.data.sources.open import open_source
from iddpm.tasks.draw import draw
from iddpm.tasks.edit import open_item
from iddpm.tasks.samples import read_samples
from iddpm.tasks.train import train


def trained(tmp_path, tiny, data, *settings):
    return train(
        data, settings=[*tiny, "training.steps=2", *settings], out=tmp_path / "run", reporter=None
    )


def test_hounsfield_units_come_out_as_such(tmp_path, tiny):
    stored = np.random.default_rng(0).integers(-1000, 2900, (40, 8, 8), dtype=np.int16)
    np.save(tmp_path / "scans.npy", stored)
    run = trained(tmp_path, tiny, tmp_path / "scans.npy", "data.layout=NHW")
    assert (run.config.bits, run.config.data.range) == (12, (-1000.0, 3095.0))
    draw(run, 4, out=tmp_path / "out")
    drawn = np.load(tmp_path / "out/samples.npz")["arr_0"]
    assert (drawn.dtype, drawn.shape) == (np.int16, (4, 8, 8, 1))
    # The model's own files are data again, in the range of the run, whatever they use of it.
    again = read_samples(tmp_path / "out/samples.npz", run.config)
    assert np.array_equal((again.x * 2047.5 + 1047.5).round()[:, 0], drawn[..., 0])
    np.save(tmp_path / "one.npy", stored[0])
    item = open_item(run, tmp_path / "one.npy").x
    assert np.array_equal((item * 2047.5 + 1047.5).round()[0], stored[0])
    np.save(tmp_path / "other.npy", stored[..., None] + np.int16(1000))
    with pytest.raises(ValueError, match=r"\[-1000, 3095\]: state a wider"):
        read_samples(tmp_path / "other.npy", run.config)


def test_measured_floats_come_out_in_their_units(tmp_path, tiny):
    stored = np.random.default_rng(0).uniform(36, 41, (40, 16))
    stored[0, 0], stored[0, 1] = 36, 41
    np.save(tmp_path / "temperatures.npy", stored)
    run = trained(tmp_path, tiny, tmp_path / "temperatures.npy")
    assert (run.config.bits, run.config.data.range) == (None, (36.0, 41.0))
    draw(run, 4, out=tmp_path / "out")
    drawn = np.load(tmp_path / "out/samples.npz")["arr_0"]
    assert (drawn.dtype, drawn.shape) == (np.float32, (4, 16, 1))
    assert 36 <= drawn.min() < 38 < drawn.max() <= 41
    # A resumed run measures nothing again.
    config = read_config(run.directory / "config.yaml")
    assert open_source(config.data.path, value_range=config.data.range).form.values.low == 36
