"""Compare how fast items are read: as the files they are, and from the cache of `data.cache`.

python benchmarks/data.py

Pictures of 256 x 256 are made, read at random as 64 x 64, and the time is printed as a ratio to
reading the cache. One process reads and nothing is trained, so that this is the cost alone. A
photo of 12 megapixels is read before, as 64 x 64, from all of its pixels and from a fraction.
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
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from iddpm.data.sources import pictures
from iddpm.data.sources.cached import cached
from iddpm.data.sources.open import open_source
from iddpm.data.sources.picture import load_picture, to_array
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


def photo(generator: np.random.Generator) -> bytes:
    """Return a JPEG of 4000 x 3000 whose detail falls as that of photos does."""
    frequency = np.hypot(np.fft.fftfreq(3000)[:, None], np.fft.rfftfreq(4000)[None])
    frequency[0, 0] = 1
    noise = np.fft.rfft2(generator.normal(size=(4, 3000, 4000))) / frequency**1.3
    planes = np.fft.irfft2(noise, (3000, 4000))
    planes /= planes.std(axis=(1, 2), keepdims=True)
    pixels = (128 + 50 * planes[0] + 15 * planes[1:]).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels.transpose(1, 2, 0)).save(file, "jpeg", quality=85)
    return file.getvalue()


def compare_photos(rounds: int) -> None:
    """Print how much faster a fraction of the pixels is, and by how much it differs."""
    file, size = photo(np.random.default_rng(0)), (64, 64)

    def read(fraction: bool) -> NDArray[np.uint8]:
        image, _ = load_picture(file, "photo.jpg", size if fraction else None)
        return to_array(image, channels=3, size=size, bits=8)

    seconds = interleave({"all": lambda: read(False), "fraction": lambda: read(True)}, rounds)
    difference = np.abs(read(True).astype(int) - read(False))
    print(
        f"photos of 12 megapixels ({len(file) / 1e6:.1f} MB) as 64 x 64: from all pixels "
        f"{ratio(seconds, 'all', 'fraction'):.1f} times as long as from a fraction; they differ by "
        f"{difference.mean():.2f} levels on average, {difference.max()} at most"
    )


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
    compare_photos(arguments.rounds)
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
