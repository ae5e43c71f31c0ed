"""TIFF and PNG files of numbers: each channel a sample of a pixel, each frame a page."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from iddpm.data.file_format import Form
from iddpm.data.sources.deep_pictures import write_deep


def write_raster(path: Path, numbers: NDArray[Any], form: Form) -> None:
    """Write ``[C, H, W]`` as a page, or ``[C, T, H, W]`` as T pages, of the dtype that it has.

    The encoding ``rgb`` has programs show the first three channels as colors, where there are so
    many; the container ``PNG`` takes uint16 of 1 to 4 channels.
    """
    if form.container == "PNG":
        write_deep(path, numbers)
        return
    from tifffile import TiffWriter

    channels = len(numbers)
    rgb = form.encoding == "rgb" and channels >= 3
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
