"""What the table of formats x features is made of: rows, files, and numbers for them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

RANDOM = np.random.default_rng(0)
SIZE = (13, 11)  # not whole bytes a row, and no whole number of interlaced blocks
TURNS: dict[int, Callable[[Any], Any]] = {
    1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1), 6: lambda x: x.swapaxes(0, 1)[:, ::-1],
    7: lambda x: x.swapaxes(0, 1)[::-1, ::-1], 8: lambda x: x.swapaxes(0, 1)[::-1],
}  # fmt: skip
"""EXIF's orientations, by what is done to [H, W, ...] to see it upright."""


class File(NamedTuple):
    """One file with a feature.

    Attributes:
        content: its bytes, or what writes it.
        values: what it stands for: [C, L], [C, H, W] or [C, D, H, W] of items, else rows [N, L].
        settings: of `open_source`.
        off: how far a lossy or a converted number may be off.
        warns: what is said beside it.
    """

    content: bytes | Callable[[Path], object]
    values: Any = None
    settings: Mapping[str, Any] = MappingProxyType({})
    off: float = 0.0
    warns: str = ""


class Row(NamedTuple):
    """A feature: its files, or those of which each is refused in a sentence of such a pattern."""

    format: str
    feature: str
    files: Callable[[], list[File]]
    refused: str = ""
    library: str = ""
    suffix: str = ""


def bits(count: int, channels: int = 1) -> np.ndarray:
    """Numbers of so many bits, [H, W] or [H, W, C], the lowest and the highest among them."""
    x = RANDOM.integers(0, 2**count, (*SIZE, channels))
    x[0, :2] = [[0], [2**count - 1]]
    return x[..., 0] if channels == 1 else x


def signed(count: int, channels: int = 1) -> np.ndarray:
    """Samples [frames, channels] of so many bits, the lowest and the highest among them."""
    x = RANDOM.integers(-(2 ** (count - 1)), 2 ** (count - 1), (40, channels))
    x[:2] = [[-(2 ** (count - 1))], [2 ** (count - 1) - 1]]
    return x


def first(x: Any) -> np.ndarray:
    """[H, W] or [H, W, C] with its channels first."""
    x = np.asarray(x)
    return x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0)


def over_white(colors: Any, opacity: Any) -> np.ndarray:
    return first(np.round(255 + (np.asarray(colors, float) - 255) * np.asarray(opacity) / 255))
