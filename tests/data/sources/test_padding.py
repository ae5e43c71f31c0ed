"""Sounds shorter than a window, padded where that is asked for, and said."""

import numpy as np
import pytest
import soundfile

from iddpm.builders import open_data
from iddpm.config import validate
from iddpm.data.sources.open import open_source


def sounds(folder, lengths, dtype=np.int16):
    stored = []
    for number, length in enumerate(lengths):
        x = np.random.default_rng(number).integers(-9000, 9000, length).astype(np.int16)
        x = x if dtype == np.int16 else (x / 32768).astype(dtype)
        coding = "PCM_16" if dtype == np.int16 else "FLOAT"
        soundfile.write(folder / f"{number}.wav", x, 8000, subtype=coding)
        stored.append(x)
    return stored


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_short_sounds_are_padded_with_silence_and_it_is_said(dtype, tmp_path):
    stored = sounds(tmp_path, (40, 100, 9), dtype)
    with pytest.warns(UserWarning, match="skipped 2 of 3"):
        assert len(open_source(tmp_path, window=50)) == 2
    said = (
        r"padded 2 of 3 .* data\.window=50 with zeros at their end \(51 samples added to their 49"
    )
    with pytest.warns(UserWarning, match=said):
        source = open_source(tmp_path, window=50, pad_short=True)
    assert [source.key(index) for index in range(4)] == [
        "0.wav:0",
        "1.wav:0",
        "1.wav:50",
        "2.wav:0",
    ]
    values = source.form.values
    for index, x in ((0, stored[0]), (1, stored[1][:50]), (3, stored[2])):
        read = source.read(index)[0]
        read = read.astype(np.float64) + values.low if source.bits else read
        assert read.shape == (50,)
        assert (read[: len(x)] == x).all()
        assert (read[len(x) :] == 0).all()


@pytest.mark.filterwarnings("error")
def test_nothing_is_said_or_changed_where_all_are_long_enough(tmp_path):
    sounds(tmp_path, (50, 100))
    plain = open_source(tmp_path, window=50)
    padded = open_source(tmp_path, window=50, pad_short=True)
    assert (plain.read_many([0, 1, 2]) == padded.read_many([0, 1, 2])).all()


def test_a_single_short_sound_is_one_item(tmp_path):
    sounds(tmp_path, (9,))
    with pytest.warns(UserWarning, match="padded 1 of 1"):
        source = open_source(tmp_path / "0.wav", window=16, pad_short=True)
    assert (len(source), source.shape, source.group(0)) == (1, (1, 16), "0.wav:0")


def test_what_has_no_silence_is_refused(tmp_path):
    sounds(tmp_path, (9, 60), np.float32)
    for number in (0, 1):
        x = soundfile.read(tmp_path / f"{number}.wav")[0]
        soundfile.write(tmp_path / f"{number}.wav", x + 3, 8000, subtype="FLOAT")
    with pytest.raises(
        ValueError, match=r"2\.\d+ to 3\.\d+, does not hold: set a wider data\.range"
    ):
        open_source(tmp_path, window=50, pad_short=True)
    np.save(tmp_path / "a.npy", np.zeros((2, 4, 4, 4, 1), np.uint8))
    with pytest.raises(ValueError, match=r"pads signals, and a\.npy holds none"):
        open_source(tmp_path / "a.npy", window=(2, 2, 2), layout="NDHWC", pad_short=True)


def test_the_setting_needs_a_window(tmp_path):
    sounds(tmp_path, (50, 50))
    with pytest.raises(ValueError, match=r"data\.pad_short=True does not apply .*set that too"):
        open_data(validate({"data": {"path": str(tmp_path), "pad_short": True}}))
