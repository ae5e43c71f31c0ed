"""Picture files of numbers to upscale."""

from pathlib import Path

from torch import Tensor

from iddpm.data.file_format import Form
from iddpm.data.sources.rasters import raster_pages, raster_shape, read_raster
from iddpm.data.upscaling.low_res import LowRes, Target
from iddpm.data.writers.raster_files import write_raster


class Raster(LowRes):
    """One file of any numbers, [C, H, W], or [C, T, H, W] of several pages.

    The upscaled one is a TIFF and has its dtype and its samples; other tags are not kept.

    Raises:
        ValueError: a damaged file, or samples, pages or numbers that are not the model's.
    """

    output = ".tif"
    count = 1

    def __init__(self, path: Path, target: Target) -> None:
        pages = raster_pages(path)
        first, shape = pages[0], raster_shape(path, pages)
        several = len(shape) > 3
        if several != (target.dims == 3):
            what = f"{len(pages)} page{'s' * several}"
            wanted = "one" if several else "several"
            raise ValueError(f"{path} holds {what}, and the model takes TIFFs of {wanted}")
        target.check(path, shape[0], f"a TIFF of {first.what}")
        target.check_numbers(path, first.dtype)
        self.path, self._target, self._pages = path, target, pages
        self.shape = shape

    def read(self, start: int, stop: int) -> Tensor:
        """Return the numbers."""
        numbers = read_raster(self.path, self._pages)
        return self._target.to_model(self.path, numbers[None])[start:stop]

    def write(self, x: Tensor, path: Path) -> None:
        """Write a TIFF of the same numbers."""
        first = self._pages[0]
        stored = self._target.values.restore(x[0]).astype(first.dtype)
        write_raster(path, stored, Form("raster", encoding="rgb" if first.rgb else "minisblack"))
