"""Pictures of what was given, such as low resolutions, beside what was drawn from it."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from iddpm.data.writers.image_files import save_grid

BESIDE = 4
"""Items in a row of the picture."""


def side_by_side(given: Tensor, *drawn: Tensor) -> Tensor:
    """Return pictures to compare, item by item, [N * (1 + len(drawn)), C, *spatial].

    The values of ``given`` are repeated up to the size of the others. Where it has another number
    of channels than they, its first is shown in all.
    """
    channels = drawn[0].shape[1]
    if given.shape[1] != channels:
        given = given[:, :1].expand(-1, channels, *given.shape[2:])
    enlarged = F.interpolate(given, drawn[0].shape[2:], mode="nearest-exact")
    return torch.stack([enlarged, *drawn], dim=1).flatten(0, 1)


def save_side_by_side(path: Path | str, given: Tensor, *drawn: Tensor, film: bool = False) -> Path:
    """Write the picture of :func:`side_by_side` as a mosaic.

    Clips, whose frames lie in a row when ``film``, stand below each other.
    """
    columns = 1 if film else BESIDE * (1 + len(drawn))
    return save_grid(side_by_side(given, *drawn).cpu(), path, columns=columns, film=film)
