"""From data of a form to samples of the same form, by training and drawing."""

import nibabel
import numpy as np
import pytest
import soundfile
from PIL import Image

from iddpm.builders import form_of
from iddpm.builders.run_data import open_other
from iddpm.config import read_config
from iddpm.data.sources.open import open_source
from iddpm.tasks.draw import DrawRequest, Written, draw
from iddpm.tasks.edit import open_item
from iddpm.tasks.evaluate import evaluate
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
    draw(run, DrawRequest(4), written=Written(out=tmp_path / "out"))
    drawn = np.load(tmp_path / "out/samples.npz")["arr_0"]
    assert (drawn.dtype, drawn.shape) == (np.int16, (4, 8, 8, 1))
    # The model's own files are data again, in the range of the run, whatever they use of it.
    again = read_samples(tmp_path / "out/samples.npz", run.config)
    assert np.array_equal((again.x * 2047.5 + 1047.5).round()[:, 0], drawn[..., 0])
    np.save(tmp_path / "one.npy", stored[0])
    item = open_item(run, tmp_path / "one.npy").x
    assert np.array_equal((item * 2047.5 + 1047.5).round()[0], stored[0])
    np.save(tmp_path / "other.npy", stored[..., None] + np.int16(1000))
    with pytest.raises(ValueError, match=r"\[-1000, 3095\]: set a wider"):
        read_samples(tmp_path / "other.npy", run.config)


def test_measured_floats_come_out_in_their_units(tmp_path, tiny):
    stored = np.random.default_rng(0).uniform(36, 41, (40, 16))
    stored[0, 0], stored[0, 1] = 36, 41
    np.save(tmp_path / "temperatures.npy", stored)
    run = trained(tmp_path, tiny, tmp_path / "temperatures.npy")
    assert (run.config.bits, run.config.data.range) == (None, (36.0, 41.0))
    draw(run, DrawRequest(4), written=Written(out=tmp_path / "out"))
    drawn = np.load(tmp_path / "out/samples.npz")["arr_0"]
    assert (drawn.dtype, drawn.shape) == (np.float32, (4, 16, 1))
    assert 36 <= drawn.min() < 38 < drawn.max() <= 41
    # A resumed run measures nothing again.
    config = read_config(run.directory / "config.yaml")
    assert open_source(config.data.path, value_range=config.data.range).form.values.low == 36


def test_sounds_come_out_as_sounds(tmp_path, tiny):
    (tmp_path / "sounds").mkdir()
    for number in range(3):
        tone = np.sin(np.arange(400) / (3 + number)) * 0.5
        soundfile.write(tmp_path / f"sounds/{number}.wav", tone, 8000, subtype="PCM_16")
    run = trained(tmp_path, tiny, tmp_path / "sounds", "data.window=16")
    draw(run, DrawRequest(2), written=Written(out=tmp_path / "out"))
    stored, rate = soundfile.read(tmp_path / "out/000001.wav", dtype="int16")
    assert (stored.shape, rate, run.config.bits) == ((16,), 8000, 16)
    assert (tmp_path / "out/grid.png").is_file()


def test_the_classes_of_files_come_out_as_a_table(tmp_path, tiny):
    for number in range(12):
        path = tmp_path / f"sounds/{'ab'[number % 2]}/{number}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.sin(np.arange(16) / (3 + number)) * 0.5, 8000, subtype="PCM_16")
    run = trained(tmp_path, tiny, tmp_path / "sounds", "model.class_conditional=true")
    draw(run, DrawRequest(5, seed=3), written=Written(out=tmp_path / "out"))
    table = (tmp_path / "out/labels.csv").read_text().splitlines()
    drawn = [run.config.class_names[int(k)] for k in run.classes.labels(5, 3)]
    assert table == ["file,label", *(f"{k:06d}.flac,{name}" for k, name in enumerate(drawn))]
    # It is a table that data.labels reads.
    (tmp_path / "out/grid.png").unlink()
    again = open_source(tmp_path / "out", labels="labels.csv")
    assert [again.class_names[k] for k in again.labels] == drawn
    assert again.form == form_of(run.config)


def test_volumes_come_out_where_they_were(tmp_path, tiny):
    affine = np.diag([2.0, 2, 3, 1])
    voxels = np.random.default_rng(0).integers(0, 900, (80, 8, 8)).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "brain.nii.gz")
    run = trained(tmp_path, tiny, tmp_path / "brain.nii.gz", "data.window=[4,8,8]", "data.stride=2")
    assert (run.shape, run.config.bits) == ((1, 4, 8, 8), 10)
    draw(run, DrawRequest(2), written=Written(out=tmp_path / "out"))
    image = nibabel.load(tmp_path / "out/000001.nii.gz")
    assert (image.shape, image.get_data_dtype()) == ((4, 8, 8), np.int16)
    assert np.array_equal(image.affine, affine)


def test_series_come_out_as_a_table_with_their_classes(tmp_path, tiny):
    values = np.random.default_rng(0).normal(size=(30, 8))
    table = np.column_stack([np.arange(30) % 2 + 1, values])
    np.savetxt(tmp_path / "series.csv", table, delimiter=",")
    run = trained(tmp_path, tiny, tmp_path / "series.csv", "model.class_conditional=true")
    draw(run, DrawRequest(4, classes="2"), written=Written(out=tmp_path / "out"))
    drawn = np.loadtxt(tmp_path / "out/samples.csv", delimiter=",")
    assert drawn.shape == (4, 9)
    assert (drawn[:, -1] == 2).all()
    assert values.min() - 1e-6 <= drawn[:, :-1].min() < drawn[:, :-1].max() <= values.max() + 1e-6


def test_clips_come_out_as_clips(tmp_path, tiny):
    (tmp_path / "clips").mkdir()
    random = np.random.default_rng(0)
    for number in range(9):
        frames = [Image.fromarray(f) for f in random.integers(0, 256, (6, 8, 8), dtype=np.uint8)]
        path = tmp_path / f"clips/{number}.gif"
        frames[0].save(path, save_all=True, append_images=frames[1:], duration=120)
    window = ["data.window=[4,8,8]", "data.stride=2", "data.held_out=0.3"]
    run = trained(tmp_path, tiny, tmp_path / "clips", *window)
    assert (run.shape, run.config.form.kind) == ((1, 4, 8, 8), "clip")
    paths = draw(run, DrawRequest(8), written=Written(out=tmp_path / "out"))
    assert [path.name for path in paths] == ["grid.png", "grid.gif"]
    drawn = sorted((tmp_path / "out").glob("0*"))
    assert [path.name for path in drawn] == [f"{n:06d}.gif" for n in range(8)]
    for path in (drawn[0], tmp_path / "out/grid.gif"):
        with Image.open(path) as image:
            assert (image.n_frames, image.info["duration"]) == (4, 120)
    # What was drawn is data again, and the evaluation draws the same: there is no difference.
    (tmp_path / "again").mkdir()
    for path in drawn:
        path.rename(tmp_path / "again" / path.name)
    measured = evaluate(run, tmp_path / "again", n=8).samples
    assert measured.frechet.value < 1e-6
    assert measured.values["precision"] == measured.values["recall"] == 1


def test_folders_of_frames_come_out_as_such(tmp_path, tiny):
    stored = np.random.default_rng(0).integers(0, 256, (8, 3, 16, 16, 3), dtype=np.uint8)
    for clip, place in np.ndindex(8, 3):
        path = tmp_path / f"data/{'ab'[clip % 2]}/{clip}/{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(stored[clip, place]).save(path)
    run = trained(
        tmp_path, tiny, tmp_path / "data", "data.layout=frames", "data.image_size=8",
        "model.class_conditional=true",
    )  # fmt: skip
    assert (run.shape, run.config.class_names) == ((3, 3, 8, 8), ("a", "b"))
    draw(run, DrawRequest(2, classes="b"), written=Written(out=tmp_path / "out"))
    with Image.open(tmp_path / "out/000001/0002.png") as image:
        assert (image.mode, image.size) == ("RGB", (8, 8))
    # Other data is read the same way, resized as the run's own was.
    assert open_other(run.config, tmp_path / "data").shape == (3, 3, 8, 8)
