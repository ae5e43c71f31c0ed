"""Compare how fast items are read: as the files they are, and from the cache of `data.cache`.

python benchmarks/data.py

Pictures of 256 x 256 are made, read at random as 64 x 64, and the time is printed as a ratio to
reading the cache. One process reads and nothing is trained, so that this is the cost alone.
"""

import argparse
import io
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import interleave, processor, ratio
from PIL import Image
from rich.console import Console

from iddpm.data.sources import pictures
from iddpm.data.sources.cached import cached
from iddpm.data.sources.open import open_source
from iddpm.data.sources.source import Source

BATCH = 32


def encoded(generator: np.random.Generator, suffix: str) -> bytes:
    """Return a smooth random picture of 256 x 256 as a file."""
    coarse = generator.integers(0, 256, (32, 32, 3), np.uint8)
    image = Image.fromarray(coarse).resize((256, 256), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    image.save(file, suffix, **({"quality": 90} if suffix == "jpeg" else {}))
    return file.getvalue()


def stored(folder: Path, count: int, suffix: str) -> tuple[Path, Path]:
    """Write pictures into a folder and into shards of 250; return both."""
    generator = np.random.default_rng(0)
    loose, shards = folder / f"{suffix}_folder", folder / f"{suffix}_shards"
    loose.mkdir()
    shards.mkdir()
    for first in range(0, count, 250):
        with tarfile.open(shards / f"{first:06}.tar", "w") as archive:
            for n in range(first, min(first + 250, count)):
                data = encoded(generator, suffix)
                (loose / f"{n:06}.{suffix}").write_bytes(data)
                info = tarfile.TarInfo(f"{n:06}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return loose, shards


def reader(source: Source) -> Callable[[], object]:
    """Return a function that reads a random batch."""
    generator = np.random.default_rng(1)
    return lambda: source.read_many(generator.integers(0, len(source), BATCH))


def main() -> None:
    """Print the seconds an item takes and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=1000, help="pictures of each kind")
    parser.add_argument("--rounds", type=int, default=15, help="batches of 32 read from each")
    arguments = parser.parse_args()
    pictures.CACHE_BYTES = 0  # as for a set too large for the memory
    print(processor())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix in ("jpeg", "png"):
            loose, shards = stored(folder, arguments.count, suffix)
            source = open_source(loose, image_size=64)
            start = time.perf_counter()
            ready = cached(source, folder / "cache", console=Console(quiet=True))
            built = time.perf_counter() - start
            cases = {
                "cache": reader(ready),
                "folder": reader(source),
                "shards": reader(open_source(shards, image_size=64)),
            }
            seconds = interleave(cases, arguments.rounds)
            print(f"{suffix}: the cache of {arguments.count} pictures took {built:.1f} s to write")
            for case, times in seconds.items():
                each = 1000 * float(np.median(times)) / BATCH
                against = ratio(seconds, case, "cache")
                print(f"  {case:7} {each:7.3f} ms an item, {against:6.1f} times the cache")


if __name__ == "__main__":
    main()
