"""Whatever the source, training that is resumed in the middle of an epoch goes on bit for bit."""

import io
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from iddpm.data.augment import Flip, random_crop
from iddpm.data.batches import Batches
from iddpm.data.sources.cached import cached
from iddpm.data.sources.open import open_source
from tests.conftest import images

COUNT = 30


def encoded(save):
    file = io.BytesIO()
    save(file)
    return file.getvalue()


def png(pixels):
    return encoded(lambda file: Image.fromarray(pixels).save(file, "png"))


def npy(folder):
    np.savez(folder / "a.npz", images(COUNT, channels=3), np.arange(COUNT) % 3)
    return open_source(folder / "a.npz")


def floats(folder):
    np.save(folder / "a.npy", images(COUNT, channels=3).astype(np.float32) / 127.5 - 1)
    return open_source(folder / "a.npy")


def folder_of_pictures(folder):
    for n, pixels in enumerate(images(COUNT, channels=3)):
        (folder / "abc"[n % 3]).mkdir(exist_ok=True)
        (folder / "abc"[n % 3] / f"{n}.png").write_bytes(png(pixels))
    return open_source(folder)


def written_once(folder):
    (folder / "set").mkdir()
    source = folder_of_pictures(folder / "set")
    return cached(source, folder / "cache", console=Console(file=io.StringIO()))


def shards(folder):
    for shard in range(3):
        with tarfile.open(folder / f"{shard}.tar", "w") as archive:
            for n in range(shard * 10, shard * 10 + 10):
                for suffix, data in (
                    ("png", png(images(COUNT, channels=3)[n])),
                    ("cls", b"%d" % (n % 3)),
                ):
                    info = tarfile.TarInfo(f"{n:03}.{suffix}")
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
    return open_source(folder)


def shards_of_arrays(folder):
    with tarfile.open(folder / "0.tar", "w") as archive:
        for n, pixels in enumerate(images(COUNT, channels=3)):
            data = encoded(lambda file, pixels=pixels: np.save(file, pixels))
            info = tarfile.TarInfo(f"{n:03}.npy")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return open_source(folder)


def table(folder):
    pa = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = {
        "image": [png(p) for p in images(COUNT, channels=3)],
        "label": [n % 3 for n in range(COUNT)],
    }
    parquet.write_table(pa.table(rows), folder / "a.parquet", row_group_size=7)
    return open_source(folder)


@pytest.mark.parametrize(
    "make",
    [npy, floats, folder_of_pictures, written_once, shards, shards_of_arrays, table],
)
def test_resuming_with_other_workers_gives_the_tail_of_a_whole_one(make, tmp_path):
    source = make(tmp_path)
    # Each source holds the same pictures, in an order of its own.
    stored = images(COUNT, channels=3)
    found = sorted(source.read(n).tobytes() for n in range(COUNT))
    if source.bits is not None:
        assert found == sorted(p.transpose(2, 0, 1).tobytes() for p in stored)

    def batches_of(source, start, workers):
        return list(
            Batches(
                source,
                batch_size=8,
                seed=3,
                start_step=start,
                stop_step=9,  # 30 items: the epochs end inside batches
                workers=workers,
                augmentations=[random_crop, Flip()],
            )
        )

    whole = batches_of(source, 0, 0)
    for start, workers in ((2, 2), (5, 1)):
        for first, second in zip(whole[start:], batches_of(source, start, workers), strict=True):
            assert first.step == second.step
            assert torch.equal(first.items, second.items)
            assert torch.equal(first.x, second.x)
            assert first.y is None or torch.equal(first.y, second.y)
