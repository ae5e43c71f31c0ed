"""Samples that somebody keeps: files in ``RUN/samples/kept``, which no later command replaces."""

import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from iddpm.config import ResolvedConfig
from iddpm.runtime.atomic_files import write_atomically
from iddpm.ui.confined_paths import UnknownNameError, confined
from iddpm.ui.sample_sets import (
    KEPT,
    WAYS,
    SampleSet,
    item_file,
    read_sample,
    way_frames,
    way_picture,
)

if TYPE_CHECKING:
    from torch import Tensor

WAY_PACE = 120
"""Milliseconds of each picture of the way from noise."""


def keep_sample(run: Path, samples: SampleSet, number: int, config: ResolvedConfig) -> str:
    """Copy a sample, and its way from noise where it was filmed; return its name in the run.

    A sample without a file of its own becomes one, see :func:`content_of`.

    Raises:
        UnknownNameError: there is no such sample, it is kept already, or the folder is a link.
        ValueError: its file is damaged.
    """
    folder = run / "samples" / KEPT
    if samples.name == KEPT:
        raise UnknownNameError("this sample is kept already")
    if folder.is_symlink() or (folder / WAYS).is_symlink():
        raise UnknownNameError(f"samples/{KEPT} is a link")
    name, content = content_of(run, samples, number, config)
    place = _free(folder, samples.name, name, content)
    write_atomically(place, lambda temporary: temporary.write_bytes(content))
    batch = config.sampling.batch_size
    count = way_frames(samples, number, batch)
    if count > 1:
        first, *rest = (way_picture(samples, number, frame, batch) for frame in range(count))
        how = {"save_all": True, "append_images": rest, "duration": WAY_PACE}
        path = folder / WAYS / f"{place.name}.gif"
        write_atomically(path, lambda temporary: first.save(temporary, "GIF", **how))
    return place.relative_to(run).as_posix()


def content_of(
    run: Path, samples: SampleSet, number: int, config: ResolvedConfig
) -> tuple[str, bytes]:
    """Return the name and the content of a file of one sample.

    Its own where there is one; else one like those of the data, or a ``.npy`` array
    [C, *spatial] of the data's numbers.

    Raises:
        UnknownNameError, ValueError: as for :func:`~iddpm.ui.sample_sets.read_sample`.
    """
    own = item_file(samples, number)
    if own is None:
        return new_file(read_sample(samples, number, config), number, config)
    path = confined(run, own)
    return path.name, path.read_bytes()


def new_file(x: "Tensor", number: int, config: ResolvedConfig) -> tuple[str, bytes]:
    """Return the name and the content of a new file of an item [C, *spatial] in [-1, 1]."""
    from iddpm.builders import form_of, values_of
    from iddpm.data.formats import WRITERS
    from iddpm.data.writers.data_files import save_files

    form = form_of(config)
    with tempfile.TemporaryDirectory() as folder:
        if form.kind in WRITERS and form.encoding != "frames":
            (path,) = save_files(x[None], folder, form, start=number)
        else:
            path = Path(folder, f"{number:06d}.npy")
            np.save(path, values_of(config).restore(x[None].clamp(-1, 1))[0])
        return path.name, path.read_bytes()


def _free(folder: Path, samples: str, name: str, content: bytes) -> Path:
    """Return a path that no other sample has: a set of the same name may be drawn anew."""
    for count in itertools.count(1):
        again = "" if count == 1 else f"-{count}"
        path = folder / f"{samples}{again}_{name}"
        if not path.exists() or (path.is_file() and path.read_bytes() == content):
            return path
    raise AssertionError
