"""MP3, Ogg and AIFF files by libsndfile: parts, truncated ones, and what is written."""

import numpy as np
import pytest
import soundfile
import torch

from iddpm.data.sources.open import open_source
from iddpm.data.sources.sound_lengths import missing_bytes
from iddpm.data.writers.data_files import save_files

RATE = 24_000
LOSSY = {
    "a.mp3": ("MP3", "MPEG_LAYER_III"), "a.ogg": ("OGG", "VORBIS"), "a.opus": ("OGG", "OPUS"),
}  # fmt: skip
AIFF = ("PCM_S8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")


def tone(seconds: float = 2.0, channels: int = 2) -> np.ndarray:
    """Noise and tones [frames, channels], quieter than full scale."""
    time = np.arange(int(RATE * seconds)) / RATE
    random = np.random.default_rng(0)
    voices = [np.sin(2 * np.pi * (220 + 90 * k) * time) for k in range(channels)]
    return 0.3 * np.stack(voices, 1) + 0.05 * random.standard_normal((len(time), channels))


@pytest.mark.parametrize("name", LOSSY)
def test_parts_of_lossy_sounds_are_those_of_the_whole(name, tmp_path):
    kind, coding = LOSSY[name]
    soundfile.write(tmp_path / name, tone(), RATE, format=kind, subtype=coding)
    whole = soundfile.read(tmp_path / name, dtype="float32", always_2d=True)[0].T
    source = open_source(tmp_path / name, window=1000, value_range=(-1, 1))
    assert source.form.sample_rate == RATE
    for index in (len(source) - 1, 0, len(source) // 2, 3, 7):
        start = int(source.key(index).partition(":")[2])
        part = source.read(index)
        assert np.abs(part - whole[:, start : start + 1000]).max() < 1e-6


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("kept", [0.4, 0.97])
def test_a_sound_that_is_cut_off_is_refused(name, kept, tmp_path):
    kind, coding = LOSSY[name]
    for number in range(3):
        soundfile.write(tmp_path / f"{number}{name}", tone(), RATE, format=kind, subtype=coding)
        assert missing_bytes(tmp_path / f"{number}{name}") == 0
    content = (tmp_path / f"1{name}").read_bytes()
    (tmp_path / f"1{name}").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=rf"1{name} is (truncated: \d+ of|not a sound)"):
        open_source(tmp_path, window=1000)
    with pytest.warns(UserWarning, match=rf"skipped 1 of 3 files .*1{name}"):
        source = open_source(tmp_path, window=1000, corrupt="skip")
    assert {source.recording(index) for index in range(len(source))} == {f"0{name}", f"2{name}"}


@pytest.mark.parametrize("coding", AIFF)
def test_aiff_is_read_as_libsndfile_reads_it_and_written_back(coding, tmp_path):
    path = tmp_path / "a.aiff"
    soundfile.write(path, tone(0.02), RATE, subtype=coding)
    kind = "int16" if coding == "PCM_16" else "float32"
    source = open_source(path)
    assert (source.form.container, source.form.encoding) == ("AIFF", coding)
    stored = soundfile.read(path, dtype=kind, always_2d=True)[0].T
    numbers = source.read(0)
    if coding == "PCM_16":
        numbers = numbers.astype(np.int32) - 32768
    assert (numbers == stored).all()
    x = torch.linspace(-1, 1, 960).reshape(1, 2, 480)
    (written,) = save_files(x, tmp_path / "out", source.form)
    assert (soundfile.info(written).format, soundfile.info(written).subtype) == ("AIFF", coding)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="is truncated: 40 of the bytes"):
        open_source(path)


def test_parts_of_an_mp3_of_a_variable_rate_and_no_index(tmp_path):
    path = tmp_path / "a.mp3"
    loud = tone(6.0) * np.linspace(0, 1, int(6 * RATE))[:, None]
    soundfile.write(path, loud, RATE, bitrate_mode="VARIABLE", compression_level=0.5)
    path.write_bytes(path.read_bytes().replace(b"Xing", bytes(4)))
    whole = soundfile.read(path, dtype="float32", always_2d=True)[0].T
    source = open_source(path, window=5000, value_range=(-1, 1))
    for index in (len(source) - 1, 0, 11):
        start = int(source.key(index).partition(":")[2])
        assert np.abs(source.read(index) - whole[:, start : start + 5000]).max() < 1e-6


def test_seeking_in_an_mp3_says_nothing(tmp_path, capfd):
    path = tmp_path / "a.mp3"
    loud = np.random.default_rng(0).standard_normal(8000).cumsum()
    soundfile.write(path, loud / np.abs(loud).max(), 8000)
    source = open_source(path, window=777, value_range=(-2, 2))
    for index in range(len(source)):
        source.read(index)
    assert capfd.readouterr().err == ""
    for index in range(1, len(source)):
        soundfile.read(path, 777, 777 * index)
    assert "part2_3_length" in capfd.readouterr().err  # which others hear


def test_samples_of_lossy_sounds_are_wav_files_of_floats(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(0.2), RATE)
    form = open_source(tmp_path / "a.mp3", value_range=(-1, 1)).form
    assert (form.container, form.encoding, form.sample_rate) == (None, "FLOAT", RATE)


def test_an_mp3_with_a_tag_in_front_and_none_of_frames(tmp_path):
    """Files by other programs have an ID3 tag, and may lack the header with their length."""
    soundfile.write(tmp_path / "a.mp3", tone(0.5), RATE)
    content = (tmp_path / "a.mp3").read_bytes()
    tag = b"ID3\3\0\0\0\0\x02\x00" + bytes(256)
    (tmp_path / "b.mp3").write_bytes(tag + content)
    assert missing_bytes(tmp_path / "b.mp3") == 0
    a, b = (soundfile.read(tmp_path / name)[0] for name in ("a.mp3", "b.mp3"))
    assert (a == b).all()
    (tmp_path / "b.mp3").write_bytes((tag + content)[:-500])
    assert missing_bytes(tmp_path / "b.mp3") == 500
    plain = content.replace(b"Xing", b"\0\0\0\0").replace(b"Info", b"\0\0\0\0")
    (tmp_path / "c.mp3").write_bytes(plain)
    assert missing_bytes(tmp_path / "c.mp3") == 0


@pytest.mark.parametrize("content", [b"", b"OggS", b"OggS\0" + bytes(40), b"FORM\0\0\0\4AIFF"])
def test_what_is_no_sound_gets_one_sentence(content, tmp_path):
    for name in ("a.mp3", "a.ogg", "a.aiff"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} (is not a sound|holds no sound|is trunc)"):
            open_source(tmp_path / name)
