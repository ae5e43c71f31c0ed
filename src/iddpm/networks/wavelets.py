"""A network on the Haar coefficients of its data, at a lower resolution.

White noise is white in every orthonormal basis: diffusing the coefficients of the data with one
schedule is the same as diffusing the data. The transform is therefore part of the network. The
process, its samplers and its likelihood are those of the data, and the volume is preserved.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.networks.around import Around
from iddpm.networks.layers import resize_linear


def haar(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the sums and differences of neighbors, over the root of 2, along axes of stride 2.

    The 2^k bands of a channel follow one another, with k axes of stride 2.

    Args:
        x: [N, C, *spatial].
        strides: 1 or 2 for each axis.

    Returns:
        [N, C 2^k, *spatial divided by the strides].

    Raises:
        ValueError: an odd size along an axis of stride 2.
    """
    size = tuple(x.shape[2:])
    for axis, stride in enumerate(strides, start=2):
        if stride == 1:
            continue
        if x.shape[axis] % 2:
            raise ValueError(
                f"wavelets halve axis {axis - 2}, and size {size} is odd along it: "
                "use an even size, or fewer levels in model.wavelets"
            )
        left, right = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        both = torch.stack([left + right, left - right], dim=2) / math.sqrt(2)
        x = both.flatten(1, 2)
    return x


def inverse_haar(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Return the inverse of :func:`haar`, up to rounding."""
    for axis, stride in reversed(list(enumerate(strides, start=2))):
        if stride == 1:
            continue
        low, high = x.unflatten(1, (-1, 2)).unbind(2)
        pair = torch.stack([low + high, low - high], dim=axis + 1) / math.sqrt(2)
        x = pair.flatten(axis, axis + 1)
    return x


class WaveletNetwork(Around):
    """A wrapper that lets a network of Haar coefficients take and return the data.

    Args:
        network: of 2^(k levels) times as many channels, at a grid 2^levels coarser along k axes.
        strides: 1 or 2 for each axis; axes of stride 1 stay.
        levels: how often the transform is applied, to all bands.
        circular: the axes that are rings, for resizing a low-resolution input.
    """

    def __init__(
        self,
        network: nn.Module,
        strides: Sequence[int],
        levels: int,
        circular: Sequence[bool] = (),
    ) -> None:
        super().__init__(network)
        self.strides = tuple(strides)
        self.levels = levels
        self.circular = tuple(circular)

    def forward(self, x: Tensor, timesteps: Tensor, **conditioning: Any) -> Tensor:
        """Transform the data and its conditioning images; return the network's output for the data.

        A low-resolution input is resized to the size of the data first.

        Raises:
            ValueError: a size that the levels do not divide.
        """
        if "low_res" in conditioning:
            resized = resize_linear(conditioning["low_res"], x.shape[2:], self.circular)
            conditioning["low_res"] = self._there(resized)
        if "given" in conditioning:
            conditioning["given"] = self._there(conditioning["given"])
        output: Tensor = self.network(self._there(x), timesteps, **conditioning)
        for _ in range(self.levels):
            output = inverse_haar(output, self.strides)
        return output

    def _there(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            x = haar(x, self.strides)
        return x
