"""Items that were drawn anew, written as files like those of the data or the one given."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from iddpm.builders import form_of, values_of
from iddpm.config import ResolvedConfig
from iddpm.data.item import Item, read_item
from iddpm.data.sources.open import open_source
from iddpm.data.sources.picture import SUFFIXES
from iddpm.data.sources.rasters import holds_numbers
from iddpm.data.sources.source import Source
from iddpm.data.upscaling.find import open_low_res
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.data_files import save_files
from iddpm.data.writers.image_files import fits_picture, save_grid, save_images, save_npz
from iddpm.runs.run import Run
from iddpm.runtime.atomic_files import write_atomically
from iddpm.sampling import State

LAYOUTS = {2: "NLC", 3: "NHWC", 4: "NDHWC"}
"""Axes of ``samples.npz`` by those of an item."""


def save_items(run: Run, x: Tensor, directory: Path) -> list[Path]:
    """Write the items: as pictures where they are, as an array where a picture would round.

    Those of data in TIFF files of numbers become such files.
    """
    form = form_of(run.config)
    if form.kind == "raster":
        return save_files(x, directory, form)
    values, paths = values_of(run.config), []
    exact = fits_picture(values, run.shape[0])
    if len(run.shape) == 3 and run.shape[0] in (1, 3, 4):
        paths = save_images(x, directory, values=values if exact else None)
    if not paths or not exact:
        paths.append(save_npz(x, directory / "samples.npz", values=values))
    return paths


def read_file(config: ResolvedConfig, path: Path) -> Item:
    """Read one item of a model's shape from a file of any kind that holds one.

    Pictures, ``.npy`` arrays and numeric TIFFs are read by :func:`~iddpm.data.item.read_item`;
    sounds, tables, volumes and clips as ``iddpm upscale`` reads them, and have the shape already.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another kind, shape or range, or of several items.
    """
    shape = config.model.shape
    fitted = len(shape) == 3 or path.suffix.lower() == ".npy"
    if fitted or not path.is_file() or (len(shape) > 3 and _is_raster(path)):
        return read_item(path, shape, config.bits, values_of(config))
    x = whole_file(config, path).read(0, 1)[0]
    if tuple(x.shape) != shape:
        raise ValueError(
            f"{path} holds an item of shape {tuple(x.shape)} and the model's items have shape "
            f"{shape}: cut it to that size"
        )
    return Item(x, None)


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and holds_numbers(path)


def open_whole(run: Run, file: Path | str | int) -> LowRes:
    """Open a file of one item of any size, as it is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that does not fit the model, or of several items.
    """
    run.task.check_edits(run.directory)
    return whole_file(run.config, file)


def whole_file(config: ResolvedConfig, file: Path | str | int, *, bounded: bool = True) -> LowRes:
    """Open a file of one item of any size, as it is; errors as for :func:`open_whole`.

    What was drawn may be floats beyond the range of the data: ``bounded=False`` takes them.
    """
    shape = config.model.shape
    axes = (1,) * (len(shape) - 1)
    target = Target(shape[0], axes, form_of(config), config.data.labels, bounded=bounded)
    opened = list(open_low_res([str(file)], target).values())
    count = sum(one.count for one in opened)
    if count != 1:
        raise ValueError(f"{file} holds {count} items: give a file of one")
    return opened[0]


def open_drawn(config: ResolvedConfig, path: Path) -> Source:
    """Open samples as data: a folder with a file of each, ``samples.npz`` or ``samples.csv``."""
    options: dict[str, Any] = {}
    if path.suffix == ".npz":
        values = values_of(config)
        options["layout"] = LAYOUTS[len(config.model.shape)]
        options["value_range"] = None if values.natural else (values.low, values.high)
    return open_source(path, labels="none", **options)


def save_alike(whole: LowRes, x: Tensor, directory: Path) -> list[Path]:
    """Write each item as a file of the kind of the one that was given."""
    return [
        write_atomically(directory / f"{k:06d}{whole.output}", partial(whole.write, x[k : k + 1]))
        for k in range(len(x))
    ]


def say_written(console: Console, pictures: list[Path], items: list[Path]) -> list[Path]:
    """Say what was written, pictures of all and the items themselves, and return it."""
    for path in pictures:
        console.print(f"wrote {path}", markup=False)
    more = f" to {items[-1].name}" if len(items) > 1 else ""
    console.print(f"wrote {items[0]}{more}", markup=False)
    return [*pictures, *items]


def shown_states(
    states: Iterable[State], on_state: Callable[[int, Tensor], None] | None
) -> Iterator[State]:
    """Yield states, and show each."""
    for number, state in enumerate(states):
        if on_state is not None:
            on_state(number, state.x)
        yield state


def save_before_and_after(
    run: Run,
    before: Tensor,
    x: Tensor,
    directory: Path,
    console: Console,
    whole: LowRes | None = None,
) -> list[Path]:
    """Write items and their versions, and a picture of all in one row."""
    both = torch.cat([before, x])
    grid = save_grid(both, directory / "before_after.png", columns=len(both))
    written = save_items(run, x, directory) if whole is None else save_alike(whole, x, directory)
    return say_written(console, [grid], written)
