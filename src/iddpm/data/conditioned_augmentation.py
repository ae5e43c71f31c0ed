"""Geometric augmentation whose parameters condition the network (Karras et al. 2022, appendix F).

A network that is told how an item was changed learns the distribution of every change. The vector
of zeros stands for items as they are, so samples with it are not augmented: nothing leaks.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SCALE_SPREAD = 0.2
"""Standard deviation of log2 of a scale (appendix F, table 6)."""
MOVE_SPREAD = 0.125
"""Of a move, and the limit of a shift by whole positions, as shares of the size."""


class Parameters(NamedTuple):
    """Where each change stands in the vector; each is drawn with the same probability.

    The changes are made in this order. Planes are those of the last two axes.
    """

    flip: slice
    """1 for each axis that is mirrored."""
    turn: slice
    """cos - 1 and sin of 0 to 3 turns by ``numpy.rot90``; empty for signals."""
    shift: slice
    """Whole positions along each axis, as shares of its size over ``MOVE_SPREAD``."""
    scale: slice
    """log2 of the enlargement of all axes, over ``SCALE_SPREAD``."""
    stretch: slice
    """The same for each axis on its own; empty for signals."""
    rotation: slice
    """cos - 1 and sin of a rotation by any angle; empty for signals."""
    move: slice
    """Shares of the size along each axis, over ``MOVE_SPREAD``."""


def parameters(dims: int) -> Parameters:
    """Return the places of the parameters for 1, 2 or 3 axes."""
    plane = 2 if dims > 1 else 0
    stretched = dims if dims > 1 else 0
    sizes = (dims, plane, dims, 1, stretched, plane, dims)
    ends = np.cumsum(sizes).tolist()
    return Parameters(*(slice(end - size, end) for size, end in zip(sizes, ends, strict=True)))


def count_parameters(dims: int) -> int:
    """Return the length of the vector: 4, 13 or 17 for 1, 2 or 3 axes."""
    return int(parameters(dims).move.stop)


def draw(
    generator: np.random.Generator, probability: float, size: Sequence[int]
) -> NDArray[np.float32]:
    """Draw the vector of an item of this size; each change has the same probability.

    A plane whose sides differ is turned by 180 degrees only.
    """
    at, dims = parameters(len(size)), len(size)
    vector = np.zeros(count_parameters(dims))
    chosen = generator.random(len(at)) < probability
    flips = generator.integers(2, size=dims)
    quarters = int(generator.integers(4))
    shares = generator.uniform(-MOVE_SPREAD, MOVE_SPREAD, dims)
    angle = generator.uniform(-math.pi, math.pi)
    normal = generator.standard_normal(2 * dims + 1)
    if dims > 1 and size[-1] != size[-2]:
        quarters = 2 * (quarters % 2)
    drawn: tuple[NDArray[np.float64], ...] = (
        flips.astype(float),
        _turn(quarters),
        np.round(shares * size) / size / MOVE_SPREAD,
        normal[:1],
        normal[1 : dims + 1],
        np.array([math.cos(angle) - 1, math.sin(angle)]),
        normal[dims + 1 :],
    )
    for made, place, values in zip(chosen, at, drawn, strict=True):
        if made and place.stop > place.start:
            vector[place] = values
    return vector.astype(np.float32)


def _turn(quarters: int) -> NDArray[np.float64]:
    """Return cos - 1 and sin of quarter turns, exactly."""
    return np.array([(0.0, 0.0), (-1.0, 1.0), (-2.0, 0.0), (-1.0, -1.0)][quarters])


def augmented(x: Tensor, vectors: Tensor, wraps: Sequence[bool] = ()) -> Tensor:
    """Return items changed as their vectors say; vectors of zeros leave them as they are.

    Flips, turns and shifts are exact. The others interpolate: by cubic convolution in 1-D and 2-D
    (Keys 1981), linearly in 3-D. Positions outside are mirrored at the edge, without repeating it.

    Args:
        x: [N, C, *spatial], in [-1, 1].
        vectors: [N, P], of :func:`draw`.
        wraps: the axes that are periodic; their positions continue at the other end.
    """
    rows = vectors.any(dim=1).nonzero().flatten()
    if not len(rows):
        return x
    size = x.shape[2:]
    positions = _sources(vectors[rows.to(vectors.device)].cpu().double(), size).to(x.device)
    found = _interpolated(x[rows.to(x.device)], positions, wraps or (False,) * len(size))
    result = x.clone()
    result[rows.to(x.device)] = found.clamp(-1, 1)
    return result


def _sources(vectors: Tensor, size: Sequence[int]) -> Tensor:
    """Return the position in the item of each output position, float64 [N, d, *spatial].

    An output position p goes back through the move, the rotation, the scales, the shift, the turn
    and the flips, each around the center.
    """
    at, dims = parameters(len(size)), len(size)
    sizes = torch.tensor(size, dtype=torch.float64)
    center = (sizes - 1) / 2
    axes = [torch.arange(n, dtype=torch.float64) for n in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)  # [d, positions]
    move = vectors[:, at.move] * MOVE_SPREAD * sizes
    shift = (vectors[:, at.shift] * MOVE_SPREAD * sizes).round()
    enlarged = vectors[:, at.scale].expand(-1, dims)
    if dims > 1:
        enlarged = enlarged + vectors[:, at.stretch]
    shrink = torch.diag_embed(torch.exp2(-SCALE_SPREAD * enlarged))
    flip = torch.diag_embed(1 - 2 * vectors[:, at.flip])
    back = shrink @ _rotation(vectors[:, at.rotation], dims).mT
    before = flip @ _rotation(vectors[:, at.turn], dims).mT
    here = (grid - center[:, None])[None] - move[:, :, None]
    there = before @ (back @ here - shift[:, :, None]) + center[:, None]
    unflattened: Tensor = there.unflatten(2, tuple(size))
    return unflattened


def _rotation(cos_sin: Tensor, dims: int) -> Tensor:
    """Return matrices [N, d, d] that rotate the plane of the last two axes."""
    result = torch.eye(dims, dtype=torch.float64).repeat(len(cos_sin), 1, 1)
    if dims > 1:
        cos, sin = cos_sin[:, 0] + 1, cos_sin[:, 1]
        result[:, -2, -2] = result[:, -1, -1] = cos
        result[:, -2, -1], result[:, -1, -2] = -sin, sin
    return result


def _interpolated(x: Tensor, positions: Tensor, wraps: Sequence[bool]) -> Tensor:
    """Return ``x`` [N, C, *spatial] at ``positions`` [N, d, *spatial]."""
    size = x.shape[2:]
    cubic = len(size) < 3
    taps: list[list[tuple[Tensor, Tensor]]] = []  # for each axis, indices and weights
    for axis, (length, wrap) in enumerate(zip(size, wraps, strict=True)):
        where = positions[:, axis].flatten(1)
        low = where.floor()
        weights = _cubic(where - low) if cubic else [1 - (where - low), where - low]
        first = -1 if cubic else 0
        inside = _wrapped if wrap else _mirrored
        taps.append(
            [
                (inside(low.long() + first + k, length), weight.to(x.dtype))
                for k, weight in enumerate(weights)
            ]
        )
    flat = x.flatten(2)
    result = torch.zeros_like(flat)
    for combination in product(*taps):
        index, weight = combination[0]
        for length, (along, factor) in zip(size[1:], combination[1:], strict=True):
            index, weight = index * length + along, weight * factor
        result += flat.gather(2, index[:, None].expand_as(flat)) * weight[:, None]
    return result.reshape(x.shape)


def _cubic(share: Tensor) -> list[Tensor]:
    """Return the weights of four neighbors (Keys 1981, a = -1/2): exact for parabolas."""
    s = share
    return [
        ((-0.5 * s + 1) * s - 0.5) * s,
        (1.5 * s - 2.5) * s * s + 1,
        ((-1.5 * s + 2) * s + 0.5) * s,
        (0.5 * s - 0.5) * s * s,
    ]


def _mirrored(index: Tensor, length: int) -> Tensor:
    """Return indices within the axis: -1 is 1, and ``length`` is ``length - 2``."""
    if length == 1:
        return torch.zeros_like(index)
    index = index.abs() % (2 * length - 2)
    return torch.minimum(index, 2 * length - 2 - index)


def _wrapped(index: Tensor, length: int) -> Tensor:
    return index % length
