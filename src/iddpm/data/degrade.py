"""Low-resolution versions of data, as a model of super-resolution meets them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from iddpm.data.levels import round_to_levels
from iddpm.data.resample import shrink_bicubic, shrink_blur, shrink_box
from iddpm.runtime.seeds import normal


@dataclass(frozen=True)
class Degradation:
    """How data loses its resolution, by :mod:`~iddpm.data.resample`.

    Attributes:
        scale: how many times coarser each axis becomes.
        kind: ``"box"``, ``"bicubic"`` or ``"blur"``.
        sigma: of the blur, in positions of the data; by default half the factor of each axis.
        noise: standard deviation of the low resolution's noise, in units of [-1, 1].
        bits: depth of the data. The low resolution is rounded to its levels, as a file of it is;
            None leaves floats as they are.
        circular: which axes are rings.
    """

    scale: tuple[int, ...]
    kind: str = "box"
    sigma: float | None = None
    noise: float = 0.0
    bits: int | None = None
    circular: tuple[bool, ...] = ()

    def shrink(self, x: Tensor) -> Tensor:
        """Return [N, C, *spatial] at the low resolution, before noise and rounding."""
        if self.kind == "bicubic":
            return shrink_bicubic(x, self.scale, self.circular)
        if self.kind == "blur":
            return shrink_blur(x, self.scale, self.circular, self.sigma)
        return shrink_box(x, self.scale)

    def __call__(
        self, x: Tensor, items: Sequence[int], seed: int, purpose: str, step: int = 0
    ) -> Tensor:
        """Return the low resolution of data [N, C, *spatial] in [-1, 1].

        Its noise is a function of (seed, purpose, step) and of each item's number.
        """
        low_res = self.shrink(x)
        if self.noise:
            low_res = low_res + self.noise * noise_of(low_res, items, seed, purpose, step)
        return round_to_levels(low_res, self.bits)


def add_noise(low_res: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
    """Return low resolutions [N, C, *spatial] with noise of the ``levels`` [N] of each."""
    return low_res + levels.reshape(-1, *[1] * (low_res.dim() - 1)).to(low_res) * noise


def noise_of(like: Tensor, items: Sequence[int], seed: int, purpose: str, step: int = 0) -> Tensor:
    """Return standard normal noise of the shape of ``like``: a function of each item's number."""
    shape = (1, *like.shape[1:])
    drawn = [normal(seed, purpose, shape, step=step, start=item) for item in items]
    return torch.from_numpy(np.concatenate(drawn)).to(like)
