"""Held-out items and their conditioning: low resolutions and paired data."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iddpm.builders import SamplingPlan, held_out_low_res
from iddpm.builders.run_data import Split, on_device, shuffled
from iddpm.config import ResolvedConfig
from iddpm.data.batches import held_out_batches
from iddpm.data.levels import round_to_levels, to_model_range
from iddpm.data.resample import enlarge_bicubic
from iddpm.data.sources.source import Source
from iddpm.networks.layers import resize_linear
from iddpm.networks.trunk import check_circular
from iddpm.runs.run import Run

BATCH = 256


@dataclass(frozen=True, eq=False)
class Pairs:
    """The items and the conditioning of samples 0, 1, ... of a run.

    Attributes:
        source: the run's data.
        items: int64 [N], the item of each sample.
        given: their conditioning without the class; for super-resolution with ``low_res``
            [N, C, *spatial] as in a file.
        labels: int64 [N], or None if the data has none.
        facts: all that determines the items and their conditioning, for any N.
    """

    source: Source
    items: NDArray[np.int64]
    given: dict[str, Tensor]
    labels: Tensor | None
    facts: dict[str, Any]

    @property
    def low_res(self) -> Tensor:
        """[N, C, *spatial] in [-1, 1]."""
        return self.given["low_res"]

    def classes(self, plan: SamplingPlan) -> list[int] | None:
        """Return the class of each item, for a class-conditional model."""
        if plan.classes is None or self.labels is None:
            return None
        if plan.classes.names != self.source.class_names:  # a classifier's
            return None
        return [int(label) for label in self.labels]

    def truth(self, count: int | None = None) -> Tensor:
        """Return the items of the first samples in [-1, 1]."""
        stored = self.source.read_many(self.items[:count])
        return to_model_range(stored, self.source.bits)


def held_out_pairs(run: Run, n: int, split: Split | None = None) -> Pairs:
    """Return the items of the first ``n`` samples: the held-out items, repeated as needed.

    Sample k has the same item for every ``n``, and the order mixes classes.

    Raises:
        FileNotFoundError: the run's data is gone.
        ValueError: nothing is held out.
    """
    config, takes_low_res = run.config, run.task.takes_low_res
    if split is None:
        try:
            split = run.open_split()
        except FileNotFoundError as error:
            if not takes_low_res:
                raise FileNotFoundError(
                    f"{run.directory} is conditioned on paired data, here that of the held-out "
                    f"items, which are missing ({error}): restore them, or give other data "
                    "with --given"
                ) from None
            raise FileNotFoundError(
                f"{run.directory} upscales the held-out items, which are missing ({error}): "
                f"restore them, or upscale your own files with iddpm upscale {run.directory} "
                "FILE"
            ) from None
    source, order = split.source, shuffled(split.held_out)
    if not len(order):
        raise ValueError(
            f"{run.directory} has no held-out items (data.held_out={config.data.held_out:g}): "
            f"give {'low_res' if takes_low_res else 'paired data with --given'}"
        )
    items = order[np.arange(max(n, 1)) % len(order)]
    parts: list[dict[str, Tensor]] = []
    for batch in held_out_batches(source, items, batch_size=BATCH):
        device = torch.device("cpu")
        ((_, conditioning),) = on_device([batch], config, device)
        for name in ("y", "low_res_noise", "interpolated"):  # sampling sets these itself
            conditioning.pop(name, None)
        if takes_low_res:
            x = batch.to(device).x
            conditioning["low_res"] = held_out_low_res(config, x, batch.items.tolist())
        parts.append(conditioning)
    return Pairs(
        source,
        items,
        {name: torch.cat([part[name] for part in parts]) for name in parts[0]},
        None if source.labels is None else torch.from_numpy(source.labels[items]),
        {
            "data": source.name,
            "items": hashlib.sha256(order.astype("<i8").tobytes()).hexdigest(),
            "scale": config.scale,
            "degradation": config.degradation.model_dump(mode="json"),
        },
    )


def interpolated(config: ResolvedConfig, low_res: Tensor) -> dict[str, Tensor]:
    """Return interpolated low resolutions, rounded to the data's levels.

    By name: ``linear`` and ``bicubic``, each [N, C, *spatial].
    """
    size = config.model.size
    circular = check_circular(config.model.circular, len(size))
    upscaled = {
        "linear": resize_linear(low_res, size, circular),
        "bicubic": enlarge_bicubic(low_res, size, circular),
    }
    return {name: round_to_levels(x, config.bits) for name, x in upscaled.items()}
