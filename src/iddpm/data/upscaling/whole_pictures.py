"""Pictures to upscale."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from iddpm.data.sources.picture import load_picture, read_header, to_array
from iddpm.data.upscaling.low_res import LowRes, Target

_CHANNELS = {"1": 1, "L": 1, "I": 1, "RGB": 3, "P": 3, "RGBA": 4}


class Picture(LowRes):
    """One picture that Pillow reads; the upscaled one is a PNG of the same depth and channels.

    A palette becomes RGB, or RGBA where it has transparency.

    Raises:
        ValueError: a damaged file, several pictures, or other channels or bits than the model's.
    """

    output = ".png"
    count = 1

    def __init__(self, path: Path, target: Target) -> None:
        header = read_header(path)
        what = f"a picture of mode {header.mode}"
        channels = 1 if header.mode.startswith("I;16") else _CHANNELS.get(header.mode, 0)
        if channels == 0 or (header.transparency and channels == 1):
            raise ValueError(
                f"{path} is {what}{' with transparency' if header.transparency else ''}, which "
                "would be lost: convert it to gray, RGB or RGBA"
            )
        target.check(path, 4 if header.transparency else channels, what)
        target.check_numbers(path, np.dtype(np.uint16 if header.bits == 16 else np.uint8))
        self.path, self._target = path, target
        self.shape = (target.channels, *header.size)

    def read(self, start: int, stop: int) -> Tensor:
        """Return the picture."""
        image, bits = load_picture(self.path)
        pixels = to_array(image, channels=self._target.channels, size=None, bits=bits)
        return self._target.to_model(self.path, pixels[None])[start:stop]

    def write(self, x: Tensor, path: Path) -> None:
        """Write a PNG."""
        pixels = self._target.values.restore(x[0]).transpose(1, 2, 0)
        Image.fromarray(pixels[..., 0] if len(x[0]) == 1 else pixels).save(path, "PNG")
