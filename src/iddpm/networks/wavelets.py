"""A network on coefficients of its data in an orthonormal basis, at a lower resolution.

White noise is white in every orthonormal basis: diffusing the coefficients of the data with one
schedule is the same as diffusing the data. The transform is therefore part of the network. The
process, its samplers and its likelihood are those of the data, and the volume is preserved.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from iddpm.networks.around import Around
from iddpm.networks.layers import resize_linear

Basis = Literal["haar", "patch"]
"""Sums and differences of neighbors, or the neighbors themselves (space to depth)."""


def coefficients(x: Tensor, strides: Sequence[int], basis: Basis = "haar") -> Tensor:
    """Return both coefficients of each pair of neighbors as channels, along axes of stride 2.

    They are the neighbors, or their sum and difference over the root of 2. The 2^k of a channel
    follow one another, with k axes of stride 2.

    Args:
        x: [N, C, *spatial].
        strides: 1 or 2 for each axis.
        basis: ``"haar"`` or ``"patch"``.

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
            name = "wavelets halve" if basis == "haar" else "patches halve"
            raise ValueError(
                f"{name} axis {axis - 2}, and size {size} is odd along it: "
                f"use an even size, or less of model.{'wavelets' if basis == 'haar' else 'patch'}"
            )
        left, right = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        left, right = _rotated(left, right, basis)
        x = torch.stack([left, right], dim=2).flatten(1, 2)
    return x


def from_coefficients(x: Tensor, strides: Sequence[int], basis: Basis = "haar") -> Tensor:
    """Return the inverse of :func:`coefficients`: exactly for patches, up to rounding for Haar."""
    for axis, stride in reversed(list(enumerate(strides, start=2))):
        if stride == 1:
            continue
        left, right = x.unflatten(1, (-1, 2)).unbind(2)
        left, right = _rotated(left, right, basis)
        x = torch.stack([left, right], dim=axis + 1).flatten(axis, axis + 1)
    return x


def _rotated(left: Tensor, right: Tensor, basis: Basis) -> tuple[Tensor, Tensor]:
    """Return a pair of neighbors in the basis; the map is its own inverse."""
    if basis == "patch":
        return left, right
    return (left + right) / math.sqrt(2), (left - right) / math.sqrt(2)


class WaveletNetwork(Around):
    """A wrapper that lets a network of Haar coefficients or patches take and return the data.

    Args:
        network: of 2^(k levels) times as many channels, at a grid 2^levels coarser along k axes.
        strides: 1 or 2 for each axis; axes of stride 1 stay.
        levels: how often the transform is applied, to all bands.
        circular: the axes that are rings, for resizing a low-resolution input.
        basis: of the coefficients.
    """

    def __init__(
        self,
        network: nn.Module,
        strides: Sequence[int],
        levels: int,
        circular: Sequence[bool] = (),
        basis: Basis = "haar",
    ) -> None:
        super().__init__(network)
        self.basis: Basis = basis
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
            output = from_coefficients(output, self.strides, self.basis)
        return output

    def _there(self, x: Tensor) -> Tensor:
        for _ in range(self.levels):
            x = coefficients(x, self.strides, self.basis)
        return x
