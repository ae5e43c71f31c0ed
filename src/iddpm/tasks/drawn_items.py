"""Items that were drawn anew, written as files like those of the data."""

from pathlib import Path

from rich.console import Console
from torch import Tensor

from iddpm.builders import form_of, values_of
from iddpm.data.writers.data_files import save_files
from iddpm.data.writers.image_files import fits_picture, save_images, save_npz
from iddpm.runs.run import Run


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


def say_written(console: Console, pictures: list[Path], items: list[Path]) -> list[Path]:
    """Say what was written, pictures of all and the items themselves, and return it."""
    for path in pictures:
        console.print(f"wrote {path}", markup=False)
    more = f" to {items[-1].name}" if len(items) > 1 else ""
    console.print(f"wrote {items[0]}{more}", markup=False)
    return [*pictures, *items]
