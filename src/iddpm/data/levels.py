"""The one place where levels become numbers in [-1, 1], and back."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray


def to_model_range(x: torch.Tensor | NDArray[Any], bits: int | None) -> torch.Tensor:
    """Return ``x`` as float32 in [-1, 1]: level 0 becomes -1 and level ``2**bits - 1`` becomes 1.

    With ``bits=None`` the values are in [-1, 1] already and only the dtype changes.
    """
    if not isinstance(x, torch.Tensor):
        x = np.require(x, requirements="W")  # of a read-only array, a copy: tensors can be written
    values = torch.as_tensor(x).to(torch.float32)
    return values if bits is None else values / _half_range(bits) - 1.0


def to_stored_range(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Return finite ``x`` in [-1, 1] as the nearest of ``2**bits`` levels, uint8 or uint16.

    The inverse of `to_model_range`, exact for every level up to 16 bits. Values outside [-1, 1]
    are clamped.
    """
    levels = (x.to(torch.float32).clamp(-1.0, 1.0) + 1.0) * _half_range(bits)
    return levels.round().to(torch.uint8 if bits <= 8 else torch.uint16)


def round_to_levels(x: torch.Tensor, bits: int | None) -> torch.Tensor:
    """Return ``x`` in [-1, 1] as it comes back from storage; with ``bits=None`` as it is."""
    return x if bits is None else to_model_range(to_stored_range(x, bits), bits)


def _half_range(bits: int) -> float:
    if not 1 <= bits <= 16:
        raise ValueError(f"bits is {bits}; give 1 to 16, or None for values already in [-1, 1]")
    return float(2**bits - 1) / 2
