"""The picture of the README: four kinds of data, each held out beside drawn.

    python -m benchmarks.overview      # composes docs/overview.png from docs/runs/*.png

The pictures in docs/runs are made by ``make run-digits``, ``run-emoji``, ``run-signals`` and
``run-volumes``; of each only the first two columns are taken, data and samples.
"""

from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from iddpm.runtime.atomic_files import write_atomically

DOCS = Path(__file__).parents[1] / "docs"
WIDTH, GAP, TITLE = 612, 16, 24


class Panel(NamedTuple):
    """A part of a picture in docs/runs.

    Attributes:
        name: the picture.
        title: of the panel.
        width: pixels from the left that hold the data and the samples.
        height: pixels from the top.
    """

    name: str
    title: str
    width: int
    height: int


COLUMNS = (
    (
        Panel("digits", "Digits, 28 x 28", 614, 202),
        Panel("signals", "Blood pressure, windows of 256", 392, 204),
    ),
    (
        Panel("emoji", "Emoji, RGB", 558, 226),
        Panel("volumes", "Brain scan, crops of 32 x 32 x 32, three slices each", 806, 418),
    ),
)


def _panel(panel: Panel) -> Image.Image:
    """Return the part of the picture at the common width, under its title."""
    with Image.open(DOCS / "runs" / f"{panel.name}.png") as file:
        part = file.convert("RGB").crop((0, 0, panel.width, panel.height))
    height = round(panel.height * WIDTH / panel.width)
    sheet = Image.new("RGB", (WIDTH, TITLE + height), "white")
    ImageDraw.Draw(sheet).text((2, 3), panel.title, fill="black", font=ImageFont.load_default(15))
    sheet.paste(part.resize((WIDTH, height), Image.Resampling.LANCZOS), (0, TITLE))
    return sheet


def overview(path: Path = DOCS / "overview.png") -> Path:
    """Write the picture and return its path."""
    columns = [[_panel(panel) for panel in column] for column in COLUMNS]
    height = max(sum(panel.height + GAP for panel in column) for column in columns) - GAP
    sheet = Image.new("RGB", (len(columns) * (WIDTH + GAP) - GAP, height), "white")
    for k, column in enumerate(columns):
        top = 0
        for panel in column:
            sheet.paste(panel, (k * (WIDTH + GAP), top))
            top += panel.height + GAP
    small = sheet.quantize(256, dither=Image.Dither.NONE)
    return write_atomically(path, lambda to: small.save(to, format="PNG", optimize=True))


if __name__ == "__main__":
    print(overview())
