"""Restoring what was measured of items of any size by an opened run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from iddpm.builders import build_sample_tiling, check_class_left_open
from iddpm.builders.load_choice import load
from iddpm.builders.sampling_plan import settings_for_inpainting
from iddpm.config.choices import RESTORATIONS, listed
from iddpm.diffusion import Denoise
from iddpm.runs.drawing import Requested, draw_batches
from iddpm.runs.guided_plan import plan_sampling
from iddpm.runs.opened_run import OpenedRun
from iddpm.sampling import NO_CLASS, OVERLAP, Tile
from iddpm.sampling.operators import Cropped, Operator
from iddpm.sampling.restoration import recomputed


@dataclass(frozen=True)
class Restoration:
    """How items are restored.

    Attributes:
        method: one of :data:`iddpm.config.choices.RESTORATIONS`; None for the default.
        noise: standard deviation of the measurement's noise, where the data spans -1 to 1.
        overlap: share of a tile that neighbors share, at the least.

    Raises:
        ValueError: an unknown method.
    """

    method: str | None = None
    noise: float = 0.0
    overlap: float = OVERLAP

    def __post_init__(self) -> None:
        """Refuse a method that does not exist."""
        if self.method is not None and self.method not in RESTORATIONS:
            raise ValueError(f"method {self.method!r} is unknown: use {listed(RESTORATIONS)}")

    @property
    def name(self) -> str:
        """The method's name."""
        return self.method or next(iter(RESTORATIONS))


def restore(
    run: OpenedRun,
    measured: Tensor,
    operator: Operator,
    requested: Requested,
    how: Restoration,
    *,
    on_batch: Callable[[], None] | None,
    settings: Mapping[str, Any],
) -> Tensor:
    """Draw items that fit measurements; arguments and errors as for :meth:`Run.restore`.

    ``requested`` says which samples, all but their size and the measurement.
    """
    run.task.check_edits(run.directory)
    operator.check(measured)
    if operator.shape[0] != run.shape[0]:
        raise ValueError(
            f"the operator measures items of {operator.shape[0]} channels, and {run.directory} "
            f"draws items of {run.shape[0]}"
        )
    tiling = build_sample_tiling(run.config, operator.shape[1:], how.overlap)
    whole = operator
    if tiling.size != operator.shape[1:]:
        whole = Cropped(operator, tiling.size, tiling.before)
    method = load(RESTORATIONS[how.name].home)
    settings, given = settings_for_inpainting(settings), dict(requested.given or {})
    if run.classes is not None and requested.classes is None and "y" not in given:
        check_class_left_open(run.config, run.directory)
        given["y"] = torch.full((requested.n,), NO_CLASS)
        settings["guidance"] = settings.get("guidance") or 1.0  # none to exaggerate
    plan = plan_sampling(run, **settings)
    at_once = plan.sampling.batch_size

    def on_tiles(tiles: Sequence[Tile], data: Tensor) -> None:
        if on_batch is not None:
            on_batch()

    def around(denoise: Denoise) -> Denoise:
        tiles = recomputed(denoise) if tiling.count > 1 else denoise
        restored: Denoise = method(tiling.joined(tiles, at_once, on_tiles), whole, how.noise)
        return restored

    sampling = plan.sampling.model_copy(update={"batch_size": tiling.rows(at_once)})
    plan = replace(plan.around(around), sampling=sampling)
    given["measured"] = measured
    wanted = replace(requested, given=given, size=tiling.size)
    x = torch.cat([batch.x for batch in draw_batches(run, plan, wanted)])
    if how.noise == 0:
        x = whole.place(x, measured.cpu())
    return tiling.crop(x)
