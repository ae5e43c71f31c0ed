"""What the pages of a TIFF run through, by the notes that microscopes and their programs leave."""

import json
import re
from collections.abc import Sequence
from math import prod

from iddpm.data.sources.tiff_pages import TiffPage, imagej_note


def page_axes(text: str, colors: int) -> dict[str, int]:
    """Return the axes of the pages and their lengths, as far as the metadata gives them.

    Args:
        text: the description, by ImageJ, OME or tifffile.
        colors: samples in a pixel of a page.
    """
    found: dict[str, int] = {}
    if text.startswith("ImageJ="):
        found = {
            k: v for k, v in imagej_note(text).items() if k in ("channels", "slices", "frames")
        }
    elif "<OME" in text:
        sizes = dict(re.findall(r'\bSize([CZT])="(\d{1,9})"', text)[:3])
        names = {"C": "channels", "Z": "slices", "T": "frames"}
        found = {names[k]: int(v) for k, v in sizes.items()}
        found["channels"] = found.get("channels", 1) // colors
    elif text.startswith('{"shape"'):
        try:
            shape = json.loads(text)["shape"]
            found = {f"axis {k}": int(n) for k, n in enumerate(shape[: -3 if colors > 1 else -2])}
        except (ValueError, TypeError, KeyError):
            found = {}
    return {name: length for name, length in found.items() if length > 1}


def refuse_mixed_pages(name: str, text: str, pages: int, colors: int) -> None:
    """Refuse a stack whose pages are not one after the other in time or depth alone.

    Raises:
        ValueError: several axes, or channels, lie in the order of the pages; or several images.
    """
    axes = page_axes(text, colors)
    if len(axes) > 1 or "channels" in axes:
        runs = " x ".join(f"{length} {axis}" for axis, length in axes.items())
        raise ValueError(
            f"the pages of {name} are ordered by {runs}, and those of a clip only by its "
            "frames: split the stack, or save it as a .npy array with its channels as an axis"
        )
    if "<OME" in text and prod(axes.values()) != pages:
        raise ValueError(
            f"{name} holds {pages} pages and its OME metadata gives the axes of "
            f"{prod(axes.values())}: save each image in its own file"
        )


def refuse_differing(name: str, pages: Sequence[TiffPage]) -> None:
    """Refuse pages that differ in size or in what a pixel holds."""
    first = pages[0]
    for page in pages:
        if (page.size, page.what, page.mode) != (first.size, first.what, first.mode):
            raise ValueError(
                f"{name} holds pages that differ: the first is {first.size[0]}x{first.size[1]} "
                f"({first.mode or first.what}), page {page.number + 1} is "
                f"{page.size[0]}x{page.size[1]} ({page.mode or page.what}); save pages of one "
                "kind"
            )
