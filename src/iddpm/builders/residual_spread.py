"""The standard deviation of the residual to the interpolation, measured before training."""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from iddpm.builders.low_resolution import interpolate, training_low_res
from iddpm.config import Config, ResolvedConfig
from iddpm.data.batches import held_out_batches
from iddpm.data.sources.source import Source

MOST_ITEMS = 512
MOST_VALUES = 2**24
"""Largest number of values that are read: more would not change the result visibly."""
AT_ONCE = 16
NOTHING = 1e-6
"""Spread below which there is only float32's rounding."""
LEAST_SHARE = 0.1
"""Smallest spread as a share of the largest channel's: other data may vary more."""


def with_residual_scale(
    wanted: Config, resolved: ResolvedConfig, source: Source, items: NDArray[np.int64]
) -> ResolvedConfig:
    """Return resolved settings with the spread of the residual filled in, where one is learned.

    It also moves the low-noise end of a log-SNR schedule that is not stated: at this noise the
    levels of the data can be read, and a residual has its noise in smaller units.

    Args:
        wanted: the user's settings.
        resolved: the same with what follows from the data.
        source: the data.
        items: the training items.
    """
    diffusion = resolved.diffusion
    if not diffusion.residual or diffusion.residual_scale is not None:
        return resolved
    scale = measure_residual(resolved, source, items)
    changed: dict[str, object] = {"residual_scale": scale}
    if diffusion.log_snr_max is not None and wanted.diffusion.log_snr_max is None:
        changed["log_snr_max"] = diffusion.log_snr_max + 2 * math.log(max(scale))
    return resolved.model_copy(update={"diffusion": diffusion.model_copy(update=changed)})


def measure_residual(
    config: ResolvedConfig, source: Source, items: NDArray[np.int64]
) -> tuple[float, ...]:
    """Return the root mean square of each channel's residual over some items, evenly spread.

    1 if it is zero: the low resolution determines the data.
    """
    count = min(MOST_ITEMS, max(MOST_VALUES // math.prod(source.shape), 1), len(items))
    some = items[np.linspace(0, len(items) - 1, count).round().astype(np.int64)]
    total = torch.zeros(source.shape[0], dtype=torch.float64)
    for batch in held_out_batches(source, some, batch_size=AT_ONCE):
        x = batch.to(torch.device("cpu")).x
        low_res = training_low_res(config, x, batch.items.tolist(), 0)["low_res"]
        apart = (x - interpolate(config, low_res, x.shape[2:])).double()
        total += apart.square().mean(dim=tuple(range(2, x.dim()))).sum(dim=0)
    spread = (total / count).sqrt()
    largest = float(spread.max())
    if largest < NOTHING:
        return (1.0,) * len(spread)
    return tuple(max(value, LEAST_SHARE * largest) for value in spread.tolist())
