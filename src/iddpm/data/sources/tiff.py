"""What the pages of a TIFF run through, by the notes that microscopes and their programs leave."""

import json
import re
from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from iddpm.data.sources.tiff_pages import TiffPage, imagej_note

_OME_AXES = {"C": "channels", "Z": "slices", "T": "frames"}
_IMAGEJ_ORDER = "CZT"  # the axis that changes first from page to page stands first


def channel_pages(text: str, pages: int, colors: int) -> NDArray[np.int64] | None:
    """Return the numbers of the pages ``[C, T]`` where they run through channels.

    Args:
        text: the description, by ImageJ or OME.
        pages: how many there are.
        colors: samples in a pixel of a page.

    Returns:
        One row for each channel, T the slices or the frames; None where the pages have no channels,
        or have both slices and frames, or samples of their own.
    """
    axes = page_axes(text, colors)
    several = axes.get("channels", 1) > 1 and len(axes) <= 2 and colors == 1
    if not several or prod(axes.values()) != pages:
        return None
    said = re.search(r'\bDimensionOrder="XY([CZT]{3})"', text)
    order = said.group(1) if said and "<OME" in text else _IMAGEJ_ORDER
    lengths = [axes.get(_OME_AXES[letter], 1) for letter in order]
    numbers = (
        np.arange(pages)
        .reshape(lengths[::-1])
        .transpose([2 - order.index(letter) for letter in "CZT"])
    )  # [C, Z, T]
    for planes in re.findall(r"<(?:\w+:)?TiffData\b[^>]*>", text):
        facts = dict(re.findall(r'\b(IFD|First[CZT]|PlaneCount)="(\d{1,9})"', planes))
        place = tuple(int(facts.get(f"First{letter}", 0)) for letter in "CZT")
        alone = facts.get("PlaneCount", "1") == "1" and "IFD" in facts and "FirstC" in facts
        inside = all(a < n for a, n in zip(place, numbers.shape, strict=True))
        if alone and inside and int(facts["IFD"]) < pages:
            numbers[place] = int(facts["IFD"])
    found: NDArray[np.int64] = numbers.reshape(len(numbers), -1)
    return found if len(np.unique(found)) == pages else None


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
        found = {_OME_AXES[k]: int(v) for k, v in sizes.items()}
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
