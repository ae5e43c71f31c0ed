"""Resample data axis by axis: down by box, bicubic or blur, up by bicubic."""

import math
from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor

BLUR_REACH = 4.0
"""Standard deviations after which a blur ends."""

Kernel = Callable[[Tensor], Tensor]
"""Weights as a function of the distance from where a value is wanted, in positions."""


def shrink_box(x: Tensor, scale: Sequence[int]) -> Tensor:
    """Return the mean of each block of [N, C, *spatial], ``scale`` positions along each axis."""
    for axis, factor in enumerate(scale, start=2):
        if factor > 1:
            x = x.unflatten(axis, (x.shape[axis] // factor, factor)).mean(dim=axis + 1)
    return x


def shrink_bicubic(x: Tensor, scale: Sequence[int], circular: Sequence[bool] = ()) -> Tensor:
    """Return [N, C, *spatial] ``scale`` times coarser by antialiased bicubic interpolation.

    As Pillow's and ``F.interpolate(antialias=True)``: the kernel of Keys (1981) with a = -1/2,
    stretched by the scale, its weights brought to a sum of 1 where an end cuts it off.
    """
    for axis, factor in enumerate(scale, start=2):
        kernel = _stretched(_keys, factor)
        x = _resample(x, axis, x.shape[axis] // factor, kernel, 2 * factor, circular)
    return x


def shrink_blur(
    x: Tensor, scale: Sequence[int], circular: Sequence[bool] = (), sigma: float | None = None
) -> Tensor:
    """Return [N, C, *spatial] blurred by a Gaussian, at the middle of every ``scale`` positions.

    Nothing is shifted: an even scale has its middle between two positions. An axis of scale 1 stays
    as it is.

    Args:
        x: the data.
        scale: one factor for each axis.
        circular: which axes are rings.
        sigma: standard deviation in positions of ``x``; by default half the factor of the axis.
    """
    for axis, factor in enumerate(scale, start=2):
        if factor > 1:
            width = sigma or factor / 2
            kernel = _stretched(_gauss, width)
            reach = BLUR_REACH * width
            x = _resample(x, axis, x.shape[axis] // factor, kernel, reach, circular)
    return x


def enlarge_bicubic(x: Tensor, size: Sequence[int], circular: Sequence[bool] = ()) -> Tensor:
    """Return [N, C, *spatial] enlarged to ``size`` by bicubic interpolation, a = -1/2."""
    for axis, new in enumerate(size, start=2):
        if new != x.shape[axis]:
            x = _resample(x, axis, new, _keys, 2, circular)
    return x


def _resample(
    x: Tensor, axis: int, size: int, kernel: Kernel, reach: float, circular: Sequence[bool]
) -> Tensor:
    """Return ``x`` with ``size`` values along an axis, each a weighted sum of those around it.

    A loop over the weights rather than a convolution: exact in float32 on every device, and as
    lean for a signal of a million values as for a picture.
    """
    old = x.shape[axis]
    middle = (torch.arange(size, dtype=torch.float64) + 0.5) * (old / size) - 0.5
    first = (middle - reach).ceil().long()
    wraps = axis - 2 < len(circular) and circular[axis - 2]
    places = [first + k for k in range(math.floor(2 * reach) + 1)]
    weights = [
        kernel(place - middle)
        * ((place - middle).abs() <= reach)
        * (wraps | ((place >= 0) & (place < old)))
        for place in places
    ]
    whole = torch.stack(weights).sum(dim=0)
    shape = (-1, *[1] * (x.dim() - axis - 1))

    def part(place: Tensor, weight: Tensor) -> Tensor:
        chosen = (place % old if wraps else place.clamp(0, old - 1)).to(x.device)
        return x.index_select(axis, chosen) * (weight / whole).to(x).reshape(shape)

    return reduce(torch.add, map(part, places, weights))


def _stretched(kernel: Kernel, width: float) -> Kernel:
    return lambda distance: kernel(distance / width)


def _keys(distance: Tensor) -> Tensor:
    """Return the cubic convolution kernel of Keys (1981), a = -1/2."""
    d = distance.abs()
    near = (1.5 * d - 2.5) * d**2 + 1
    far = ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, torch.zeros_like(d)))


def _gauss(distance: Tensor) -> Tensor:
    return torch.exp(-(distance**2) / 2)
