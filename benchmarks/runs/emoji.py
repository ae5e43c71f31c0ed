"""Emoji of 32 x 32 pixels, on white (RGB) or with opacity (RGBA), beside a Gaussian.

make run-emoji        # RGB
make run-emoji-rgba
"""

import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.runs.common import (
    DATA,
    PICTURES,
    bound,
    compare,
    finish,
    items,
    packed,
    prepared,
    spread,
    table,
    trained,
)
from benchmarks.runs.gaussian import of_levels
from benchmarks.runs.picture import beside

FONTS = ("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",)
BLOCKS = (range(0x2190, 0x3300), range(0x1F000, 0x1FB00))
"""Code points that may be pictures."""
PARTS = (range(0x1F1E6, 0x1F200), range(0x1F3FB, 0x1F400))
"""Letters that make flags and swatches of skin: no pictures by themselves."""
HEIGHT = 109
"""Pixels of the pictures in the font, which holds no other."""
SIZE = 32
EXAMPLE = "examples/emoji.yaml"
SHOWN = 48
ALIKE = 0.12
"""Root mean squared difference, of values in [0, 1], below which two pictures are one."""


def font_file() -> Path:
    """Return the font: that of EMOJI_FONT, else where Debian puts it."""
    named = os.environ.get("EMOJI_FONT")
    for path in [named] if named else FONTS:
        if Path(path).is_file():
            return Path(path)
    raise FileNotFoundError(
        f"{named or FONTS[0]} is missing: apt-get install fonts-noto-color-emoji, or let "
        "EMOJI_FONT name a NotoColorEmoji.ttf that holds bitmaps"
    )


def render(font: Path) -> dict[int, NDArray[np.uint8]]:
    """Return the picture [32, 32, 4] of each code point that has one in color.

    Code points alone: variants by skin color, flags and families are sequences of several.
    """
    face = ImageFont.truetype(str(font), HEIGHT)
    found = {}
    for point in (point for block in BLOCKS for point in block):
        if any(point in part for part in PARTS):
            continue
        left, top, right, bottom = face.getbbox(chr(point))
        side = int(max(right - left, bottom - top))
        if side < HEIGHT // 2:
            continue
        canvas = Image.new("RGBA", (side, side))
        corner = ((side - right - left) // 2, (side - bottom - top) // 2)
        ImageDraw.Draw(canvas).text(corner, chr(point), font=face, embedded_color=True)
        small = np.asarray(canvas.resize((SIZE, SIZE), Image.Resampling.BOX))
        if (small[..., 3] > 0).mean() > 0.1 and np.ptp(on_white(small)) > 64:
            found[point] = small
    return found


def on_white(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture [..., 4] on white, [..., 3]."""
    opacity = picture[..., 3:] / 255
    return (picture[..., :3] * opacity + 255 * (1 - opacity)).round().astype(np.uint8)


def distinct(pictures: dict[int, NDArray[np.uint8]], alike: float = ALIKE) -> list[int]:
    """Return the code points whose picture is not nearly that of an earlier one.

    So no clock face is held out while its neighbor is trained on.
    """
    kept: list[int] = []
    seen = np.zeros((len(pictures), SIZE * SIZE * 3), np.float32)
    for point, picture in pictures.items():
        flat = on_white(picture).ravel().astype(np.float32) / 255
        if not kept or np.sqrt(((seen[: len(kept)] - flat) ** 2).mean(axis=1)).min() > alike:
            seen[len(kept)] = flat
            kept.append(point)
    return kept


def prepare(mode: str, folder: Path = DATA) -> Path:
    """Write the emoji as files named by their code points, RGB or RGBA."""
    pictures = render(font_file())
    kept = distinct(pictures)
    print(f"{len(kept)} of {len(pictures)} emoji differ from all before them")
    to = folder / f"emoji_{mode.lower()}"
    to.mkdir(parents=True, exist_ok=True)
    for point in kept:
        picture = pictures[point] if mode == "RGBA" else on_white(pictures[point])
        Image.fromarray(picture).save(to / f"u{point:05x}.png")
    return to


def run(
    data: Path,
    out: Path,
    picture: Path,
    *,
    settings: Sequence[str] = (),
    n: int = 1000,
    steps: int = 20,
    looks: int = 16,
) -> None:
    """Train, measure and draw.

    Args:
        data: a folder of pictures.
        out: the run directory.
        picture: where to draw.
        settings: of training, beside the example's.
        n: samples to measure.
        steps: network evaluations for each.
        looks: network evaluations for each item's likelihood.
    """
    started = time.monotonic()
    model = trained(data, out, EXAMPLE, settings)
    train, held_out = items(model.config)
    other = of_levels(train, held_out, 8, n)
    likelihood = bound(model, samples_per_item=looks)
    rows = compare(
        model, likelihood, [other], features="pca", n=n, steps=steps, xz=packed([held_out])
    )
    mosaics = {
        "held out": spread(held_out, SHOWN),
        "drawn by the model": model.sample(SHOWN, steps=steps, seed=1),
        other.name: other.samples[:SHOWN],
    }
    print(f"wrote {beside(mosaics, picture, columns=8, scale=1)}")
    finish(["Likelihood in bits/dim.\n", table(rows)], out, started)


if __name__ == "__main__":
    mode = sys.argv[1]
    name = {"RGB": "emoji", "RGBA": "emoji_rgba"}[mode]
    run(prepared(partial(prepare, mode)), Path("runs") / name, PICTURES / f"{name}.png")
