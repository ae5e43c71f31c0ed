"""Training on data at scale: what it is read from changes nothing, and waiting for it is seen."""

import io
import tarfile

import pytest
from PIL import Image

import iddpm
from iddpm.data.sources.arrays import ArraySource
from iddpm.tasks.train import train
from iddpm.training.step import TrainStep
from tests.conftest import assert_same_state, images
from tests.training.test_loop import Clock

COUNT = 30


@pytest.fixture
def shards(tmp_path):
    folder = tmp_path / "shards"
    folder.mkdir()
    for shard in range(3):
        with tarfile.open(folder / f"{shard:03}.tar", "w") as archive:
            for n in range(shard * 10, shard * 10 + 10):
                file = io.BytesIO()
                Image.fromarray(images(COUNT)[n, ..., 0]).save(file, "png")
                info = tarfile.TarInfo(f"{n:03}.png")
                info.size = len(file.getvalue())
                archive.addfile(info, io.BytesIO(file.getvalue()))
    return folder


def test_a_resumed_run_on_shards_with_workers_and_a_cache_is_the_uninterrupted_one(
    tmp_path, shards, tiny
):
    settings = [*tiny, "data.flip=true", "data.held_out=0.1"]
    pattern = shards / "{000..002}.tar"
    train(pattern, out=tmp_path / "whole", settings=[*settings, "training.steps=8"])
    train(pattern, out=tmp_path / "parts", settings=[*settings, "training.steps=5"])
    train(
        out=tmp_path / "parts",
        settings=["training.steps=8", "data.workers=2", f"data.cache={tmp_path / 'cache'}"],
        resume=True,
    )
    assert_same_state(tmp_path / "whole", tmp_path / "parts")
    assert list((tmp_path / "cache").glob("*/items.npy"))


@pytest.mark.parametrize(("read", "learn", "share"), [(3, 1, 0.75), (0, 1, 0), (0.25, 0.75, 0.25)])
def test_waiting_for_data_is_logged_as_such(
    read, learn, share, tmp_path, array_file, tiny, monkeypatch
):
    """Of the time of a batch and its step, by a clock that only these two move."""
    clock = Clock(monkeypatch)
    for kind, name, seconds in ((ArraySource, "read_many", read), (TrainStep, "__call__", learn)):
        monkeypatch.setattr(kind, name, clock.passes(seconds, getattr(kind, name)))
    settings = [*tiny, "training.steps=9", "training.log_every=3"]
    run = train(array_file, out=tmp_path / "run", settings=settings)
    record = run.log[1]  # beside the start and the end
    assert record["step"] == 6
    assert record["data_wait_share"] == pytest.approx(share)
    assert record["items_per_second"] == pytest.approx(8 / (read + learn))
    # A wait counts in the record in which it passed; the next batch is read before a record.
    expected = 2 * read / (2 * read + 3 * learn)
    assert run.log[-1]["data_wait_share"] == pytest.approx(expected)


def test_changed_data_is_refused_before_its_cache_is_built_anew(tmp_path, tiny):
    folder, cache, out = tmp_path / "pictures", tmp_path / "cache", tmp_path / "run"
    folder.mkdir()
    for number, picture in enumerate(images(12)):
        Image.fromarray(picture[..., 0]).save(folder / f"{number}.png")
    settings = [*tiny, f"data.cache={cache}"]
    iddpm.train(folder, settings=[*settings, "training.steps=1"], out=out)
    before = sorted(path.name for path in cache.rglob("*"))
    assert before
    Image.fromarray(images(13)[12, ..., 0]).save(folder / "new.png")
    with pytest.raises(ValueError, match="accept-data"):
        iddpm.train(resume=True, settings=["training.steps=2"], out=out)
    assert sorted(path.name for path in cache.rglob("*")) == before
