"""TIFF files of any numbers: each channel a sample of a pixel, each frame a page."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_raster(path: Path, numbers: NDArray[Any], *, rgb: bool) -> None:
    """Write ``[C, H, W]`` as a page, or ``[C, T, H, W]`` as T pages, of the dtype that it has.

    ``rgb`` has programs show the first three channels as colors, where there are so many.
    """
    from tifffile import TiffWriter

    channels = len(numbers)
    rgb = rgb and channels >= 3
    extra = ["unspecified"] * (channels - (3 if rgb else 1))
    pages = numbers[:, None] if numbers.ndim == 3 else numbers
    with TiffWriter(path) as file:
        for page in np.moveaxis(pages, 0, -1):
            file.write(
                np.ascontiguousarray(page[..., 0] if channels == 1 else page),
                photometric="rgb" if rgb else "minisblack",
                planarconfig=None if channels == 1 else "contig",
                extrasamples=extra or None,
                metadata=None,
            )
