"""Upscaling data of any size by an opened run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from iddpm.builders import build_tiling
from iddpm.runs.drawing import Requested, draw_batches
from iddpm.runs.guided_plan import plan_sampling
from iddpm.runs.opened_run import OpenedRun
from iddpm.sampling import NO_CLASS


def upscale(
    run: OpenedRun,
    low_res: Tensor,
    requested: Requested,
    *,
    overlap: float,
    on_batch: Callable[[], None] | None,
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
        settings["guidance"] = (
            settings.get("guidance") or 1.0
        )  # without a class, guidance has no effect
    plan = tiling.around(plan_sampling(run, **settings), on_batch)
    batches = draw_batches(run, plan, replace(requested, given=conditioning, size=tiling.size))
    return torch.cat([tiling.crop(batch.x) for batch in batches])


def upscale_mean(
    run: OpenedRun,
    low_res: Tensor,
    requested: Requested,
    count: int,
    *,
    overlap: float,
    on_batch: Callable[[], None] | None,
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
            on_batch=on_batch,
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
