"""Data of any size by overlapping tiles, whose estimates are averaged at every step.

A model of small data denoises every tile of a large state. Where tiles overlap, the next step uses
the weighted mean of their estimates (Bar-Tal et al. 2023, "MultiDiffusion"). Tiles that disagree
thus converge while there is still noise, which avoids seams.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Any, NamedTuple

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, Prediction

OVERLAP = 0.25
"""Share of a tile that it shares with its neighbor, at the least."""
_AVERAGED = ("x0", "variance", "mean", "slope")
"""The fields of a prediction besides eps, which follows from x0 and x_t."""


class Tile(NamedTuple):
    """A tile of one row of a state.

    Attributes:
        row: number of the row.
        corner: where it starts along each spatial axis.
        weights: its weights along each axis; none where it is the whole state.
    """

    row: int
    corner: tuple[int, ...]
    weights: tuple[Tensor, ...] = ()


OnTiles = Callable[[Sequence[Tile], Tensor], None]
"""Called after each batch of tiles with its M tiles and the data they estimate, [M, C, *tile]."""


def tiled(
    denoise: Denoise,
    size: Sequence[int],
    *,
    overlap: float = OVERLAP,
    at_once: int = 16,
    on_tiles: OnTiles | None = None,
) -> Denoise:
    """Denoise a state of any size with a model of tiles.

    Apply it after guidance and clipping: memory is then bounded by that of ``at_once`` tiles and a
    few buffers of the state's size. Overlaps are averaged with the weights of
    :func:`tile_weights`; a state of one tile is unchanged.

    Conditioning with an axis for each axis of the state is cropped to the tile, also at a whole
    fraction of its resolution (``low_res``). Of other conditioning, such as labels [N], the tile
    receives its row. Tiles start at multiples of the lowest resolution.

    Args:
        denoise: the model, called with [M, C, *size], M at most ``at_once``.
        size: spatial size of a tile; along a shorter axis a tile is as long as the state.
        overlap: share of a tile that neighbors share, at the least; 0 puts tile beside tile.
        at_once: tiles in a batch.
        on_tiles: called after each batch with its tiles and their estimates of the data,
            [M, C, *size].

    Raises:
        ValueError: an ``overlap`` outside [0, 1) or ``at_once`` below 1; when it is called, a
            tensor whose axes are no whole fraction of the state's or of the tile's.

    >>> from iddpm import cosine
    >>> from iddpm.diffusion.prediction import from_x0
    >>> shapes = []
    >>> def small(x, level):  # a model of 8 x 8
    ...     shapes.append(tuple(x.shape))
    ...     return from_x0(x, torch.full_like(x, 0.5), level)
    >>> level = cosine(1000).at(torch.tensor([500]))
    >>> tiled(small, (8, 8))(torch.randn(1, 1, 8, 20), level).x0.shape, shapes  # three in one batch
    (torch.Size([1, 1, 8, 20]), [(3, 1, 8, 8)])
    """
    if not 0 <= overlap < 1:
        raise ValueError(
            f"overlap={overlap:g} is a share of a tile: use 0 or more and less than 1, such as 0.25"
        )
    if at_once < 1:
        raise ValueError(f"cannot denoise {at_once} tiles per batch: use 1 or more")

    def joined(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        big = x_t.shape[2:]
        tile = tuple(min(n, most) for n, most in zip(size, big, strict=True))
        if tile == big:
            whole = denoise(x_t, level, **conditioning)
            if on_tiles is not None:
                on_tiles([Tile(row, (0,) * len(big)) for row in range(len(x_t))], whole.data)
            return whole
        ratios = {
            name: _ratios(name, value, x_t, tile)
            for name, value in conditioning.items()
            if value.dim() == x_t.dim()
        }
        ones = [1] * len(tile)
        units = [math.lcm(*axis) for axis in zip(ones, *ratios.values(), strict=True)]
        tiles = _tiles(x_t, tile, overlap, units)
        sums: dict[str, Tensor] = {}
        while some := list(islice(tiles, at_once)):
            rows = [one.row for one in some]
            conditioned = {
                name: _cut(value, some, tile, ratios[name]) if name in ratios else value[rows]
                for name, value in conditioning.items()
            }
            seen = _cut(x_t, some, tile, ones)
            part = denoise(seen, Level(*(values[rows] for values in level)), **conditioned)
            _add(sums, part, some, x_t, tile)
            if on_tiles is not None:
                on_tiles(some, part.data.expand(-1, -1, *tile))
        x0 = sums.pop("x0")
        others: dict[str, Any] = dict(sums)
        residual = part.residual
        if residual is not None:
            residual = replace(residual, interpolated=conditioning["interpolated"])
        return replace(part, levels=None, residual=residual, **others).with_x0(x0, x_t, level)

    return joined


def tile_starts(whole: int, tile: int, overlap: float, unit: int = 1) -> list[int]:
    """Return the starts of the tiles along an axis, evenly spaced; the last one ends at the end.

    Args:
        whole, tile: lengths of the axis and of a tile; both multiples of ``unit``.
        overlap: share of a tile that neighbors share at the least, so far as they then still move.
        unit: what starts are multiples of.
    """
    spare, length = (whole - tile) // unit, tile // unit
    move = max(1, length - math.ceil(overlap * length))
    count = math.ceil(spare / move)
    return [0] if count == 0 else [unit * (k * spare // count) for k in range(count + 1)]


def tile_weights(whole: int, tile: int, starts: Sequence[int]) -> Tensor:
    """Return the weights of tiles along an axis, float64 [tiles, tile]: positive, of sum 1.

    A raised cosine over the tile, divided by the sum of all that cover a position. The weights of
    tiles in several dimensions are the products over the axes, whose sum is 1 too.
    """
    place = (torch.arange(tile, dtype=torch.float64) + 0.5) / tile
    window = torch.sin(math.pi * place).square()
    total = torch.zeros(whole, dtype=torch.float64)
    for start in starts:
        total[start : start + tile] += window
    return torch.stack([window / total[start : start + tile] for start in starts])


def _tiles(
    x_t: Tensor, tile: Sequence[int], overlap: float, units: Sequence[int]
) -> Iterator[Tile]:
    """Yield the tiles of all rows in turn."""
    axes = []
    for whole, length, unit in zip(x_t.shape[2:], tile, units, strict=True):
        starts = tile_starts(whole, length, overlap, unit)
        axes.append(list(zip(starts, tile_weights(whole, length, starts).to(x_t), strict=True)))
    for row, *placed in product(range(len(x_t)), *axes):
        yield Tile(row, *zip(*placed, strict=True))


def _add(
    sums: dict[str, Tensor],
    part: Prediction,
    tiles: Sequence[Tile],
    x_t: Tensor,
    size: Sequence[int],
) -> None:
    """Add the prediction of some tiles, times their weights, to buffers shaped like ``x_t``."""
    for name in _AVERAGED:
        values = getattr(part, name)
        if values is None:
            continue
        if name not in sums:
            sums[name] = torch.zeros_like(x_t)
        for tile, value in zip(tiles, values.expand(-1, -1, *size), strict=True):
            for axis, weights in enumerate(tile.weights, start=1):
                value = value * weights.reshape(-1, *[1] * (len(size) - axis))
            sums[name][tile.row][box_of(tile.corner, size)].add_(value)


def _ratios(name: str, value: Tensor, x_t: Tensor, tile: Sequence[int]) -> list[int]:
    """Return the number of positions of the state per position of ``value``, for each axis."""
    big, small = x_t.shape[2:], value.shape[2:]
    if any(n % m or length % (n // m) for n, m, length in zip(big, small, tile, strict=True)):
        raise ValueError(
            f"{name} of size {tuple(small)} cannot be cut along with a state of {tuple(big)} in "
            f"tiles of {tuple(tile)}: both must be whole multiples of the same size"
        )
    return [n // m for n, m in zip(big, small, strict=True)]


def _cut(x: Tensor, tiles: Sequence[Tile], tile: Sequence[int], ratios: Sequence[int]) -> Tensor:
    """Return the parts of ``x`` at some tiles, [M, C, *tile divided by the ratios]."""
    length = [n // ratio for n, ratio in zip(tile, ratios, strict=True)]
    corners = [[n // ratio for n, ratio in zip(t.corner, ratios, strict=True)] for t in tiles]
    return torch.stack(
        [x[one.row][box_of(corner, length)] for one, corner in zip(tiles, corners, strict=True)]
    )


def box_of(corner: Sequence[int], tile: Sequence[int]) -> tuple[slice, ...]:
    """Return the index of all channels of a tile that starts at ``corner``."""
    return (slice(None), *(slice(a, a + n) for a, n in zip(corner, tile, strict=True)))
