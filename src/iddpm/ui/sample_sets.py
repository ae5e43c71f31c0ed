"""The samples in a run directory: which sets there are, and how an item of one is looked at."""

import math
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from iddpm.config import ResolvedConfig
from iddpm.data.sources.zip_directory import open_zip
from iddpm.runtime.made_files import SAMPLES, read_made
from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.run_index import entries_of, stamp

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

ITEM = re.compile(r"[0-9]{6,}(\.[a-z.]{2,7})?")
KEPT = "kept"
"""The folder in ``RUN/samples`` of samples that somebody kept."""
KEPT_ITEM = re.compile(r".+_[0-9]{6,}\.[a-z.]{2,7}")
WAYS = "from_noise"
"""The folder there with the way from noise of each sample, where it was recorded."""
FILM_ITEMS = 100
"""Samples of ``denoising.gif``, at most."""
OPEN_SETS = 4
WHOLE = ("samples.npz", "samples.csv")
"""Files that hold all samples of a set."""
SHOWN = 400
"""Items of a set that a page shows."""


@dataclass(frozen=True)
class SampleSet:
    """Samples that one command wrote into one folder.

    Attributes:
        name: of the folder in ``RUN/samples``.
        path: the folder.
        files: names of the items' files, in order; empty where one file holds all.
        count: number of samples.
        complete: whether all were written.
        how: how they were drawn, in words.
        made_at: seconds since 1970.
        others: other files of the folder, such as ``grid.png``.
        film: how many samples ``denoising.gif`` shows, and in how many columns, where that is
            recorded.
    """

    name: str
    path: Path
    files: tuple[str, ...]
    count: int
    complete: bool
    how: str
    made_at: float
    others: tuple[str, ...]
    film: tuple[int, int] | None = None


def list_sets(run: Path) -> list[SampleSet]:
    """Return the sets of a run, the newest first."""
    found = [read_set(run, entry.name) for entry in entries_of(run / "samples") if entry.is_dir()]
    return sorted(found, key=lambda each: each.made_at, reverse=True)


def read_set(run: Path, name: str) -> SampleSet:
    """Return a set of samples.

    Raises:
        UnknownNameError: there is none of that name.
    """
    if "/" in name or not name:
        raise UnknownNameError("there are no such samples")
    path = confined(run, f"samples/{name}")
    if not path.is_dir():
        raise UnknownNameError("there are no such samples")
    names = [entry.name for entry in entries_of(path)]
    item = KEPT_ITEM if name == KEPT else ITEM
    files = tuple(each for each in names if item.fullmatch(each))
    facts, complete = _manifest(path)
    count = facts.get("samples")
    return SampleSet(
        name,
        path,
        files,
        count if type(count) is int and 0 < count < 10**7 else len(files) or _count_in(path),
        complete,
        str(facts.get("walk", ""))[:200],
        stamp(path)[0] / 1e9,
        tuple(each for each in names if each not in files and each != SAMPLES),
        _film_layout(facts.get("film")),
    )


def _film_layout(film: Any) -> tuple[int, int] | None:
    if not isinstance(film, dict):
        return None
    tiles, columns = film.get("samples"), film.get("columns")
    if type(tiles) is not int or type(columns) is not int:
        return None
    return (tiles, columns) if 0 < columns <= tiles <= FILM_ITEMS else None


def _manifest(path: Path) -> tuple[dict[str, Any], bool]:
    try:
        made = read_made(path / SAMPLES)
    except (ValueError, OSError):
        return {}, False
    return (made.facts, made.complete) if made is not None else ({}, True)


def _count_in(path: Path) -> int:
    """Return how many samples ``samples.npz`` of a folder without a manifest holds."""
    file = path / "samples.npz"
    if not file.is_file() or file.is_symlink():
        return 0
    try:
        with open_zip(file) as members, members.open("arr_0.npy") as array:
            known = np.lib.format.read_magic(array) == (1, 0)
            shape = np.lib.format.read_array_header_1_0(array)[0] if known else ()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return 0
    return int(shape[0]) if shape else 0


def has_items(samples: SampleSet) -> bool:
    """Say whether the items of a set are there, and not a picture of them alone."""
    return bool(samples.files) or any(name in samples.others for name in WHOLE)


def kind_of(config: ResolvedConfig) -> str:
    """Return how samples are shown: ``picture``, ``sound``, ``signal``, ``volume`` or ``clip``."""
    shape, form = config.model.shape, config.form
    kind = "" if form is None else form.kind
    if len(shape) == 2:
        return "sound" if kind == "signal" else "signal"
    if len(shape) == 4:
        return "clip" if kind == "clip" else "volume"
    return "picture"


def item_file(samples: SampleSet, number: int) -> str | None:
    """Return the file of an item, relative to the run directory, or None where it has none."""
    if number < len(samples.files) and not (samples.path / samples.files[number]).is_dir():
        return f"samples/{samples.name}/{samples.files[number]}"
    return None


def read_sample(samples: SampleSet, number: int, config: ResolvedConfig) -> "Tensor":
    """Return an item in [-1, 1], [C, *spatial].

    Args:
        samples: the set.
        number: of the item.
        config: the settings of the run, which say what the numbers in a file of all samples are.

    Raises:
        UnknownNameError: there is no such item.
        ValueError: its file is damaged.
    """
    from iddpm.builders import values_of
    from iddpm.data.item import read_item
    from iddpm.data.levels import to_model_range
    from iddpm.tasks.drawn_items import whole_file

    if samples.files and not (samples.path / SAMPLES).exists():
        # No manifest says which of the pictures there show several items.
        if not 0 <= number < len(samples.files):
            raise UnknownNameError(f"there is no sample {number} in {samples.name}")
        path = confined(samples.path, samples.files[number])
        try:  # those of a file that was filled in at its own size have that size
            return whole_file(config, path, bounded=False).read(0, 1)[0]
        except ValueError:  # a picture of numbers that pictures round
            return read_item(path, config.model.shape, config.bits, values_of(config)).x
    source = _open(data_of(samples), stamp(samples.path), config)
    if not 0 <= number < len(source):
        raise UnknownNameError(f"there is no sample {number} in {samples.name}")
    return to_model_range(source.read(number), source.bits)


def source_of(samples: SampleSet, number: int) -> tuple[Path, int | None]:
    """Return a file of a sample alone and None, or the data of all samples and its number."""
    file = item_file(samples, number)
    if file is not None and not (samples.path / SAMPLES).exists():
        return confined(samples.path, Path(file).name), None
    return data_of(samples), number


def data_of(samples: SampleSet) -> Path:
    """Return what the samples are read from: the folder of files, or the one file with all."""
    if samples.files:
        return samples.path
    for name in WHOLE:
        if (samples.path / name).is_file() and not (samples.path / name).is_symlink():
            return samples.path / name
    raise UnknownNameError(f"there are no samples in {samples.name}")


_open_sets: dict[tuple[Path, tuple[int, int]], Any] = {}


def _open(path: Path, version: tuple[int, int], config: ResolvedConfig) -> Any:
    """Return the samples as data; the last sets stay open."""
    from iddpm.tasks.drawn_items import open_drawn

    if (path, version) not in _open_sets:
        while len(_open_sets) >= OPEN_SETS:
            _open_sets.pop(next(iter(_open_sets)), None)
        _open_sets[path, version] = open_drawn(config, path)
    return _open_sets[path, version]


def sample_picture(samples: SampleSet, number: int, config: ResolvedConfig) -> "Image.Image":
    """Return a picture of one item: a line for a signal, slices or frames of others."""
    from iddpm.data.writers.image_files import grid_picture

    x = read_sample(samples, number, config)[None]
    return grid_picture(x, film=kind_of(config) == "clip")


def way_frames(samples: SampleSet, number: int, batch: int) -> int:
    """Return how many pictures there are of the way from noise to a sample.

    Args:
        samples: the set.
        number: of the sample.
        batch: samples per batch, of which the first alone is filmed; of a set that does not say.
    """
    found = _film(samples, number, batch)
    if found is None:
        return 0
    with found[0] as film:
        return int(getattr(film, "n_frames", 1))


def way_picture(samples: SampleSet, number: int, frame: int, batch: int) -> "Image.Image":
    """Return a sample on its way from noise.

    Args:
        samples: the set.
        number: of the sample.
        frame: of the animation, from 0.
        batch: as in :func:`way_frames`.

    Raises:
        UnknownNameError: there is no such picture.
    """
    found = _film(samples, number, batch)
    if found is None:
        raise UnknownNameError("this sample was not filmed")
    opened, layout = found
    with opened as film:
        if not 0 <= frame < int(getattr(film, "n_frames", 1)):
            raise UnknownNameError("there is no such frame")
        film.seek(frame)
        whole = film.convert("RGB")
    if layout is None:
        return whole
    tiles, columns = layout
    rows = math.ceil(tiles / columns)
    width, height = (whole.width - 2) // columns - 2, (whole.height - 2) // rows - 2
    row, column = divmod(number, columns)
    left, top = 2 + column * (width + 2), 2 + row * (height + 2)
    return whole.crop((left, top, left + width, top + height))


def _film(
    samples: SampleSet, number: int, batch: int
) -> "tuple[Image.Image, tuple[int, int] | None] | None":
    """Return the animation that shows a sample, and its tiles and columns; None for it alone."""
    from PIL import Image

    layout = None
    if samples.name == KEPT:
        if not 0 <= number < len(samples.files):
            return None
        path = samples.path / WAYS / f"{samples.files[number]}.gif"
    else:
        path, tiles = samples.path / "denoising.gif", min(samples.count, batch, FILM_ITEMS)
        layout = samples.film or (tiles, math.ceil(math.sqrt(tiles)))
        if not 0 <= number < layout[0]:
            return None
    if not path.is_file() or path.is_symlink() or path.parent.is_symlink():
        return None
    return Image.open(path), layout
