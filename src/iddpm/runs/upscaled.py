"""Upscaling data of any size by an opened run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from iddpm.builders import Tiling, build_tiling
from iddpm.networks.layers import resize_linear
from iddpm.runs.drawing import Requested, draw_batches
from iddpm.runs.guided_plan import plan_sampling
from iddpm.runs.opened_run import OpenedRun
from iddpm.sampling import NO_CLASS, Tile, box_of


@dataclass(frozen=True)
class UpscaleHooks:
    """What is called while tiles are drawn.

    Attributes:
        on_batch: called after every batch of tiles.
        on_state: called then with the newest estimates; see :meth:`Run.upscale`.
    """

    on_batch: Callable[[], None] | None = None
    on_state: Callable[[Tensor], None] | None = None


def upscale(
    run: OpenedRun,
    low_res: Tensor,
    requested: Requested,
    *,
    overlap: float,
    hooks: UpscaleHooks,
    settings: Mapping[str, Any],
) -> Tensor:
    """Upscale data by a run; arguments and errors as for :meth:`Run.upscale`.

    ``requested`` describes the samples without their size and ``low_res``.
    """
    labeled = requested.classes is not None or "y" in (requested.given or {})
    run.task.check_upscales(run.directory, labeled)
    tiling = build_tiling(run.config, low_res.shape[2:], overlap)
    conditioning = {**(requested.given or {}), "low_res": tiling.pad(low_res)}
    settings = dict(settings)
    if run.classes is not None and not labeled:
        conditioning["y"] = torch.full((len(low_res),), NO_CLASS)
        if run.config.distillation is None:  # without a class, guidance has no effect
            settings["guidance"] = settings.get("guidance") or 1.0
    estimates = _Estimates(tiling, conditioning["low_res"], hooks)
    plan = tiling.around(plan_sampling(run, **settings), estimates.add)
    wanted = replace(requested, given=conditioning, size=tiling.size)
    batches = draw_batches(run, plan, wanted, on_step=estimates.start)
    return torch.cat([tiling.crop(batch.x) for batch in batches])


def upscale_mean(
    run: OpenedRun,
    low_res: Tensor,
    requested: Requested,
    count: int,
    *,
    overlap: float,
    hooks: UpscaleHooks,
    settings: Mapping[str, Any],
) -> tuple[Tensor, Tensor]:
    """Return the mean of several samples and their spread, as for :meth:`Run.upscale_mean`."""
    check_average(count)
    mean = squares = torch.zeros(())  # sums of squares about the mean (Welford 1962)
    for number in range(count):
        drawn = upscale(
            run,
            low_res,
            replace(requested, seed=requested.seed + number),
            overlap=overlap,
            hooks=hooks,
            settings=settings,
        )
        apart = drawn.clamp(-1, 1).double() - mean
        mean = mean + apart / (number + 1)
        squares = squares + apart**2 * (number / (number + 1))
    spread = (squares / max(count - 1, 1)).sqrt()
    return mean.float(), spread.float()


def check_average(count: int) -> None:
    """Raise ValueError for a number of samples that has no mean."""
    if count < 1:
        raise ValueError(f"average={count} samples have no mean: use 1 or more, such as 8")


class _Estimates:
    """The newest estimate of each item of a batch, put together from tiles."""

    def __init__(self, tiling: Tiling, low_res: Tensor, hooks: UpscaleHooks) -> None:
        self.tiling = tiling
        self.low_res = low_res
        self.hooks = hooks
        self._x = low_res[:0]

    def start(self, number: int, x_t: Tensor) -> None:
        """Begin a batch of items, of which nothing is known but the low resolution."""
        if number == 0 and self.hooks.on_state is not None:
            rows, self.low_res = self.low_res.split((len(x_t), len(self.low_res) - len(x_t)))
            self._x = resize_linear(rows, self.tiling.size).to(x_t.device)

    def add(self, tiles: Sequence[Tile], data: Tensor) -> None:
        """Put the estimates [M, C, *tile] of some tiles in their places."""
        if self.hooks.on_batch is not None:
            self.hooks.on_batch()
        if self.hooks.on_state is None:
            return
        for tile, values in zip(tiles, data, strict=True):
            self._x[tile.row][box_of(tile.corner, values.shape[1:])] = values
        self.hooks.on_state(self.tiling.crop(self._x))
