"""Sounds in a column of a table, as Hugging Face's datasets store them."""

import io
import json
import pickle

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
SOUNDS = RANDOM.integers(-9000, 9000, (6, 320)).astype(np.int16)
CLASSES = [1, 0, 1, 1, 0, 0]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path / "cache"))


def encoded(sound, kind="WAV"):
    file = io.BytesIO()
    soundfile.write(file, sound, 8000, format=kind, subtype="PCM_16")
    return file.getvalue()


def write(path, sounds, stated=True):
    rows = [{"bytes": sound, "path": f"{k}.wav"} for k, sound in enumerate(sounds)]
    table = pyarrow.table({
        "audio": pyarrow.array(rows, pyarrow.struct([("bytes", pyarrow.binary()),
                                                     ("path", pyarrow.string())])),
        "label": CLASSES[: len(rows)], "text": ["x"] * len(rows),
    })  # fmt: skip
    features = {"audio": {"sampling_rate": 8000, "_type": "Audio"},
                "label": {"names": ["down", "up"], "_type": "ClassLabel"}}  # fmt: skip
    if stated:
        said = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": said})
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path)
    else:
        with pyarrow.ipc.new_stream(str(path), table.schema) as file:
            file.write_table(table)
    return path


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("kind", ["WAV", "FLAC"])
@pytest.mark.parametrize("stated", [False, True])
def test_each_row_is_a_sound(tmp_path, suffix, kind, stated):
    path = write(tmp_path / f"a{suffix}", [encoded(s, kind) for s in SOUNDS], stated)
    source = pickle.loads(pickle.dumps(open_source(path)))
    assert (len(source), source.shape, source.bits, source.form.sample_rate) == (
        6,
        (1, 320),
        16,
        8000,
    )
    assert np.array_equal(source.read_many(range(6))[:, 0].astype(int) - 32768, SOUNDS)
    assert list(source.labels) == CLASSES
    assert source.class_names == (("down", "up") if stated else ("0", "1"))
    windows = open_source(path, window=80, labels="none")
    assert (len(windows), windows.recording(5), windows.labels) == (24, "1", None)
    assert np.array_equal(windows.read(5)[0].astype(int) - 32768, SOUNDS[1][80:160])
    assert [stamp.name for stamp in windows.stamps()] == [path.name]


def test_rows_without_a_sound_are_left_out(tmp_path):
    whole = [encoded(s) for s in SOUNDS]
    path = write(
        tmp_path / "a.parquet", [whole[0], None, whole[2], whole[3][:90], whole[4], whole[5]]
    )
    with pytest.raises(ValueError, match=r"row 1 of audio holds the path of a sound and not the"):
        open_source(path)
    with pytest.warns(UserWarning, match="skipped 2 of 6 files"):
        source = open_source(path, corrupt="skip")
    assert [source.key(k) for k in range(len(source))] == ["0", "2", "4", "5"]
    assert list(source.labels) == [1, 1, 0, 0]
    path = write(tmp_path / "a.parquet", whole)  # another file of that name
    assert len(open_source(path)) == 6
