"""Sounds of several channels, and their mean."""

import numpy as np
import pytest
import soundfile

from iddpm.builders import open_data
from iddpm.config import validate
from iddpm.data.sources.open import open_source


def sound(path, channels, rate=8000, subtype="PCM_16", seed=0):
    x = np.random.default_rng(seed).integers(-9000, 9000, (64, channels))
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, (x / 32768).astype(np.float64), rate, subtype=subtype)
    return x


def whole(source, index):
    (length,) = source.shape[1:]
    assert length == 64
    return source.read(index).astype(int) - 32768


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_channels_are_mixed_to_their_mean(suffix, tmp_path):
    stereo = sound(tmp_path / f"s/0.{suffix}", 2)
    mono = sound(tmp_path / f"s/1.{suffix}", 1, seed=1)
    with pytest.warns(UserWarning, match="s: the 1 and 2 channels of sounds are averaged to one"):
        source = open_source(tmp_path / "s", channels=1, window=64)
    assert source.shape == (1, 64)
    assert np.abs(whole(source, 0)[0] - stereo.mean(1)).max() <= 0.5
    assert (whole(source, 1)[0] == mono[:, 0]).all()


def test_floats_and_other_rates_are_mixed(tmp_path):
    x = sound(tmp_path / "s/0.wav", 2, subtype="FLOAT") / 32768
    with pytest.warns(UserWarning, match="the 2 channels of sounds are averaged to one"):
        source = open_source(tmp_path / "s", channels=1, window=64)
    assert np.abs(source.read(0)[0] - x.mean(1)).max() < 1e-6
    with pytest.warns(UserWarning, match="averaged to one"):
        halved = open_source(tmp_path / "s", channels=1, window=32, sample_rate=4000)
    kept = open_source(tmp_path / "s", window=32, sample_rate=4000).read(0)
    assert np.abs(halved.read(0)[0] - kept.mean(0)).max() < 1e-5


@pytest.mark.filterwarnings("error")
def test_what_has_one_channel_stays_as_it_is(tmp_path):
    sound(tmp_path / "s/0.wav", 1)
    source = open_source(tmp_path / "s", channels=1, window=64)
    assert (source.read(0) == open_source(tmp_path / "s", window=64).read(0)).all()


def test_mixed_numbers_of_channels_name_the_setting(tmp_path):
    for channels in (1, 2):
        sound(tmp_path / f"s/{channels}.wav", channels)
    with pytest.raises(ValueError, match=r"1 and 2 channels: average .* data\.channels=1"):
        open_source(tmp_path / "s", window=64)
    with pytest.raises(ValueError, match=r"data\.channels=3 does not fit"):
        open_source(tmp_path / "s", window=64, channels=3)


def test_the_setting_reaches_the_reader(tmp_path):
    sound(tmp_path / "s/0.wav", 2)
    config = validate({"data": {"path": str(tmp_path / "s"), "channels": 1, "window": 64}})
    with pytest.warns(UserWarning, match="averaged to one"):
        assert open_data(config).shape == (1, 64)
