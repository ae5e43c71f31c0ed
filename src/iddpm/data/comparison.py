"""Pictures of super-resolution: low resolutions beside what they become."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from iddpm.data.writers import save_grid

BESIDE = 4
"""Items in a row of the picture."""


def side_by_side(low_res: Tensor, *finer: Tensor) -> Tensor:
    """Return what is to be looked at together, item by item, [N * (1 + len(finer)), C, *spatial].

    The values of ``low_res`` are repeated up to the size of the others.
    """
    enlarged = F.interpolate(low_res, finer[0].shape[2:], mode="nearest-exact")
    return torch.stack([enlarged, *finer], dim=1).flatten(0, 1)


def save_side_by_side(
    path: Path | str, low_res: Tensor, *finer: Tensor, film: bool = False
) -> Path:
    """Write the picture of :func:`side_by_side` by :func:`~iddpm.data.writers.save_grid`.

    Clips, whose frames lie in a row when ``film``, stand below each other.
    """
    columns = 1 if film else BESIDE * (1 + len(finer))
    return save_grid(side_by_side(low_res, *finer).cpu(), path, columns=columns, film=film)
