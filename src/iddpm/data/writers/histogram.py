"""A histogram as a picture: how much of the range that becomes [-1, 1] data uses."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from iddpm.data.sources.pixel_limit import any_size

LEAST_WIDTH = 320
_HEIGHT, _MARGIN, _LINE = 80, 8, 14  # pixels: of the bars, around them, of a line of text
_PAPER, _INK, _BAR, _USED = (255, 255, 255), (60, 60, 60), (31, 78, 160), (220, 232, 246)


@any_size()
def draw_histogram(
    counts: NDArray[np.int64],
    ends: tuple[float, float],
    used: tuple[float, float],
    width: int = LEAST_WIDTH,
) -> Image.Image:
    """Return bars over a range, with the part that is used shaded.

    Args:
        counts: numbers of values ``[bins]``, the bins of one width from end to end; the bars are
            as high as the logarithms of 1 + counts, so that rare values are seen too.
        ends: the stored numbers that become -1 and 1, at the left and right.
        used: the lowest and highest number of the data.
        width: of the picture in pixels, `LEAST_WIDTH` or more.
    """
    width = max(width, LEAST_WIDTH)
    image = Image.new("RGB", (width, 2 * _MARGIN + _HEIGHT + 2 * _LINE), _PAPER)
    draw = ImageDraw.Draw(image)
    left, span = _MARGIN, width - 2 * _MARGIN - 1
    top, bottom = _MARGIN + _LINE, _MARGIN + _LINE + _HEIGHT
    low, high = ends

    def across(value: float) -> int:
        return left + round((value - low) / (high - low) * span)

    draw.rectangle((across(used[0]), top, across(used[1]), bottom), fill=_USED)
    heights = np.log1p(counts) / max(float(np.log1p(counts.max())), 1e-9) * (_HEIGHT - 1)
    edges = left + np.linspace(0, span, len(counts) + 1).round().astype(int)
    for k, height in enumerate(heights.round().astype(int).tolist()):
        if counts[k]:
            right = max(int(edges[k]), int(edges[k + 1]) - 1)
            draw.rectangle((int(edges[k]), bottom - max(height, 1), right, bottom), fill=_BAR)
    draw.line((left, bottom, left + span, bottom), fill=_INK)
    draw.text((left, _MARGIN - 2), f"used {used[0]:.6g} to {used[1]:.6g}", fill=_INK)
    draw.text((left, bottom + 2), f"{low:.6g} (-1)", fill=_INK)
    text = f"{high:.6g} (1)"
    draw.text((left + span - draw.textlength(text), bottom + 2), text, fill=_INK)
    return image
