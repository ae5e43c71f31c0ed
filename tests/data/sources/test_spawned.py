"""Every source travels to a process that is started afresh, as on Windows and macOS."""

import multiprocessing
import pickle

import numpy as np
import pytest

from iddpm.data.augment import random_crop
from iddpm.data.batches import Batches
from iddpm.data.sources.cached import cached
from iddpm.data.sources.open import open_source
from tests.cli.broken import saved_dataset, whole_files, whole_pictures

OPTIONS = {
    "a.npy": {"layout": "NHW"},
    "floats.npy": {"layout": "NHW"},
    "int64.npy": {"layout": "NHW"},
    "a.npz": {"layout": "NHW"},
    "a.h5": {"layout": "NHW"},
    "a.nii": {"window": 3},
    "a.nii.gz": {},
    "a.wav": {"window": 50},
    "a.flac": {"sample_rate": 4000},
    "a.csv": {"window": 4},
    "a.mgz": {"window": 3},
    "a.nrrd": {},
    "a.mat": {"layout": "NHW"},
    "a.nc": {},
    "a.edf": {"window": 50},
    "a.ts": {},
    "a.idx": {},
    "a.zip": {},
    "a.parquet": {},
    "a.arrow": {},
    "a.tar": {"value_range": (0.0, 255.0)},
    "a.gif": {},
    "a.tif": {},
}


def sources(folder):
    """One source of each kind, and those that stand on others."""
    for name, options in OPTIONS.items():
        (folder / name).write_bytes(whole_files()[name])
        yield open_source(folder / name, **options)
    for number in range(3):
        for part in ("pictures", "frames/a", "frames/b"):
            path = folder / part / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(whole_pictures()["f.png"])
    for number in range(3):
        for name in ("0.npy", "0.csv", "0.h5"):
            path = folder / name[2:] / f"{number}{name[1:]}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(whole_files()[f"a{name[1:]}"])
    for name, layout in (("npy", "NDHW"), ("csv", "rows"), ("h5", "NDHW")):
        yield open_source(folder / name, layout=layout)
    yield open_source(folder / "pictures", value_range=(0.0, 65535.0))
    yield open_source(folder / "pictures", value_range="auto")
    yield open_source(folder / "frames", layout="frames")
    pictures = open_source(folder / "pictures", image_size=4)
    yield cached(pictures, folder / "cache", folder / "pictures", None, None)
    (folder / "saved").mkdir()
    for name, data in saved_dataset().items():
        (folder / "saved" / name).write_bytes(data)
    yield open_source(folder / "saved")


def read_all(pickled: bytes) -> list[bytes]:
    """Read the first batch of each; runs in the other process."""
    return [batches[0].x.numpy().tobytes() for batches in pickle.loads(pickled)]


@pytest.mark.filterwarnings("ignore:.*half of")
def test_a_process_that_knows_nothing_reads_the_same(tmp_path):
    found = list(sources(tmp_path))
    assert len({type(source) for source in found}) >= 6
    batches = [
        Batches(source, batch_size=1, seed=0, augmentations=[random_crop]) for source in found
    ]
    before = read_all(pickle.dumps(batches))  # opens files here, which must not travel
    for one in batches:
        one[0]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        after = pool.apply(read_all, (pickle.dumps(batches),))
    assert after == before == [one[0].x.numpy().tobytes() for one in batches]
    assert all(np.frombuffer(data, np.uint8).any() for data in after)
