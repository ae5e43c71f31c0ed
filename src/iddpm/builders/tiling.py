"""Data of any size by tiles of the trained size."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from iddpm.builders.data_facts import grid_of
from iddpm.builders.low_resolution import low_res_size, scale_of
from iddpm.builders.network import least_group
from iddpm.builders.sampling_plan import SamplingPlan
from iddpm.config import ResolvedConfig, UNetModel
from iddpm.diffusion import Denoise
from iddpm.networks.trunk import check_circular, check_size, check_stride, level_widths
from iddpm.sampling import OnTiles, tile_starts, tiled


@dataclass(frozen=True)
class Tiling:
    """How an input of one size is upscaled, or data of one size is drawn, where the scale is 1.

    Attributes:
        low_res: its size, padded to a tile if it is smaller.
        before: padding before it, along each axis.
        given: its size without padding.
        scale: upscaling factor of each axis.
        tile: size of a tile of the upscaled data; along a periodic axis the whole ring.
        overlap: share of a tile that neighbors share, at the least.
    """

    low_res: tuple[int, ...]
    before: tuple[int, ...]
    given: tuple[int, ...]
    scale: tuple[int, ...]
    tile: tuple[int, ...]
    overlap: float

    @property
    def size(self) -> tuple[int, ...]:
        """The sampled size; padding is cropped at the end."""
        return tuple(n * factor for n, factor in zip(self.low_res, self.scale, strict=True))

    @property
    def count(self) -> int:
        """Tiles of one item."""
        axes = zip(self.size, self.tile, self.scale, strict=True)
        return prod(len(tile_starts(n, length, self.overlap, unit)) for n, length, unit in axes)

    def pad(self, low_res: Tensor) -> Tensor:
        """Mirror [N, C, *given] at its ends, repeatedly if needed, to [N, C, *low_res].

        Ends are mirrored between positions: the low resolution of mirrored data is the mirrored
        low resolution.
        """
        for axis, (n, wanted, before) in enumerate(
            zip(self.given, self.low_res, self.before, strict=True), start=2
        ):
            if wanted != n:
                place = (torch.arange(wanted) - before) % (2 * n)
                place = torch.minimum(place, 2 * n - 1 - place)
                low_res = low_res.index_select(axis, place.to(low_res.device))
        return low_res

    def crop(self, x: Tensor) -> Tensor:
        """Return the part of [N, C, *size] without padding."""
        for axis, (n, before, factor) in enumerate(
            zip(self.given, self.before, self.scale, strict=True), start=2
        ):
            x = x.narrow(axis, before * factor, n * factor)
        return x

    def around(self, plan: SamplingPlan, on_tiles: OnTiles | None = None) -> SamplingPlan:
        """Return a plan that draws tiles in batches of the size of ``plan``.

        Args:
            plan: the plan of a model of tiles.
            on_tiles: called after each batch of tiles, as by :func:`~iddpm.sampling.tiled`.
        """
        at_once = plan.sampling.batch_size
        return replace(
            plan,
            denoise=self.joined(plan.denoise, at_once, on_tiles),
            sampling=plan.sampling.model_copy(update={"batch_size": self.rows(at_once)}),
        )

    def joined(self, denoise: Denoise, at_once: int, on_tiles: OnTiles | None = None) -> Denoise:
        """Return a denoiser of the whole from one of tiles, ``at_once`` of them at a time."""
        return tiled(denoise, self.tile, overlap=self.overlap, at_once=at_once, on_tiles=on_tiles)

    def batches(self, n: int, at_once: int) -> int:
        """Return the number of batches of tiles in one evaluation of ``n`` items."""
        rows = self.rows(at_once)
        whole, rest = divmod(n, rows)
        return whole * -(-rows * self.count // at_once) + -(-rest * self.count // at_once)

    def rows(self, at_once: int) -> int:
        """Return the number of items that are drawn together."""
        return max(1, at_once // self.count)


def build_tiling(config: ResolvedConfig, low_res: Sequence[int], overlap: float) -> Tiling:
    """Return how a model with resolved settings upscales low-resolution inputs of a size.

    Raises:
        ValueError: another number of axes, an overlap outside [0, 1), or a periodic axis whose
            length does not fit the network.
    """
    scale, trained = scale_of(config), low_res_size(config)
    if len(low_res) != len(scale):
        raise ValueError(
            f"low_res has {len(low_res)} spatial axes, and the training data has {len(scale)}"
        )
    return _tiling(config, low_res, scale, trained, overlap)


def build_sample_tiling(config: ResolvedConfig, size: Sequence[int], overlap: float) -> Tiling:
    """Return how a model with resolved settings draws data of a size that it was not trained on.

    What is smaller than the data of the training is a part of something of that size.

    Raises:
        ValueError: a model of super-resolution, and as :func:`build_tiling`.
    """
    trained = config.model.size
    if config.scale is not None:
        raise ValueError(
            "a super-resolution model draws data of the size of its low-resolution input: use "
            "iddpm upscale, which takes inputs of any size"
        )
    if len(size) != len(trained) or min(size) < 1:
        raise ValueError(
            f"size {_by(size)} needs {len(trained)} axes of 1 or more, as the training data has "
            f"({_by(trained)})"
        )
    return _tiling(config, size, (1,) * len(size), trained, overlap)


def _tiling(
    config: ResolvedConfig,
    given: Sequence[int],
    scale: tuple[int, ...],
    trained: Sequence[int],
    overlap: float,
) -> Tiling:
    """Return the tiling; ``trained`` is the size in the training of what is ``given``."""
    model = config.model
    if not 0 <= overlap < 1:
        raise ValueError(
            f"overlap={overlap:g} is a share of a tile: use 0 or more and less than 1, such as 0.25"
        )
    circular = check_circular(model.circular, len(scale))
    padded = tuple(
        n if ring else max(n, least)
        for n, least, ring in zip(given, trained, circular, strict=True)
    )
    before = tuple((wanted - n) // 2 for wanted, n in zip(padded, given, strict=True))
    tile = tuple(
        n * factor if ring else length
        for n, factor, length, ring in zip(padded, scale, model.size, circular, strict=True)
    )
    stride = check_stride(model.stride, len(scale))
    if isinstance(model, UNetModel):  # others use tiles of the trained size
        widths = level_widths(model.model_channels, model.channel_mult)
        grid = grid_of(
            {"size": tile, "wavelets": model.wavelets, "patch": model.patch, "stride": stride}
        )
        check_size(grid, stride, widths, circular, least_group(model))
    return Tiling(padded, before, tuple(given), scale, tile, overlap)


def _by(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
