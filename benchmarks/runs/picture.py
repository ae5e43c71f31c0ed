"""Small pictures for the documentation: mosaics beside each other, and curves."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

import iddpm
from iddpm.runtime.atomic_files import write_atomically

TITLE = 20
"""Pixels above each mosaic."""


def beside(
    mosaics: Mapping[str, Tensor], path: Path, *, columns: int, scale: int | None = None
) -> Path:
    """Write mosaics of items [N, C, *spatial] in [-1, 1] beside each other, under their titles."""
    with tempfile.TemporaryDirectory() as folder:
        tiles = []
        for k, x in enumerate(mosaics.values()):
            file = iddpm.save_grid(x, Path(folder) / f"{k}.png", columns=columns, scale=scale)
            with Image.open(file) as image:
                tiles.append(image.convert("RGB"))
    gap = 12
    width = sum(tile.width for tile in tiles) + gap * (len(tiles) - 1)
    sheet = Image.new("RGB", (width, TITLE + max(tile.height for tile in tiles)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    left = 0
    for title, tile in zip(mosaics, tiles, strict=True):
        pen.text((left + 2, 2), title, fill="black", font=font)
        sheet.paste(tile, (left, TITLE))
        left += tile.width + gap
    # A palette makes the file a third as large, and 256 colors are enough for the eye.
    small = sheet.quantize(256, dither=Image.Dither.NONE)
    return write_atomically(path, lambda to: small.save(to, optimize=True))
