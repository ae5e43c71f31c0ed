"""Training on data at scale: what it is read from changes nothing, and waiting for it is seen."""

import io
import tarfile
import time

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.data.sources.arrays import ArraySource
from iddpm.tasks.train import train
from tests.conftest import assert_same_state, images

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


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_for_slow_data_is_logged_as_such(workers, tmp_path, array_file, tiny, monkeypatch):
    """Of a batch that takes so long to read, all but the time of a step is waited for."""
    slow, read = 0.3, ArraySource.read_many

    def read_slowly(source, indices):
        time.sleep(slow)
        return read(source, indices)

    monkeypatch.setattr(ArraySource, "read_many", read_slowly)
    settings = [*tiny, "training.steps=9", "training.log_every=3", f"data.workers={workers}"]
    run = train(array_file, out=tmp_path / "run", settings=settings)
    record = run.log[1]  # beside the start and the end
    share, elapsed = record["data_wait_share"], 3 * 8 / record["items_per_second"]
    steps = elapsed * (1 - share)
    assert 0 < share < 1
    assert run.log[-1]["data_wait_share"] < 1  # a wait counts in the record in which it passed
    if workers == 0:  # reading and training take turns
        assert share * elapsed == pytest.approx(3 * slow, rel=0.25)
    else:  # a worker reads while training goes on, so that only the rest is waited for
        assert 3 * slow - steps - 0.2 < share * elapsed < 3 * slow + 0.2


def test_data_that_is_there_is_not_waited_for(tmp_path, array_file, tiny):
    run = train(array_file, out=tmp_path / "run", settings=[*tiny, "training.steps=5"])
    assert np.mean([record["data_wait_share"] for record in run.log]) < 0.3


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
