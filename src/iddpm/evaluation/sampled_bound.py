"""Estimates of the variational bound from a few timesteps per item."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from iddpm.runtime.seeds import stream


def systematic(probability: Tensor, offsets: Tensor) -> Tensor:
    """Draw M different steps per item, [N, M], step k with the probability given for it.

    The probabilities laid end to end fill [0, M); an item looks at the steps that lie at u, u + 1,
    ... with its own u. Neighboring steps, whose terms are alike, thus come one at a time
    (systematic sampling; Madow 1949), and a sum over the drawn steps weighted by 1 / probability
    is an unbiased estimate of the sum over all (Horvitz & Thompson 1952).

    Args:
        probability: float64 [K], each in (0, 1], with a whole sum M.
        offsets: float64 [N], u in [0, 1).
    """
    ends = probability.cumsum(0)
    count = round(float(ends[-1]))
    assert abs(float(ends[-1]) - count) < 1e-6, float(ends[-1])
    ends[-1] = count  # the last bits of the sum may not push a point past the end
    points = offsets[:, None] + torch.arange(count, dtype=torch.float64)
    return torch.searchsorted(ends, points.contiguous(), right=True).clamp(max=len(ends) - 1)


def inclusion(size: Tensor, count: int) -> Tensor:
    """Return probabilities [K] that sum to ``count``: proportional to ``size``, at most 1.

    Step 0, the decoder, is always looked at: its term is by far the largest.

    Args:
        size: positive float64 [K].
        count: 1 to K; at least 2 when there are other steps than the decoder.
    """
    certain = torch.zeros(len(size), dtype=torch.bool)
    certain[0] = True
    while True:
        left = count - int(certain.sum())
        rest = torch.where(certain, 0.0, size)
        share = left * rest / rest.sum() if left else rest * 0
        probability = torch.where(certain, 1.0, share)
        if not bool((probability > 1).any()):
            return probability
        certain |= probability >= 1


def item_offsets(seed: int, items: Sequence[int]) -> Tensor:
    """Return where each item's draw of steps begins: float64 [N] in [0, 1), from (seed, item)."""
    drawn = [stream(seed, "likelihood steps", index=item).random() for item in items]
    return torch.tensor(drawn, dtype=torch.float64)


def pilot_positions(steps: int, count: int) -> list[int]:
    """Return about ``count`` positions of a process for a first look: 0 and the last among them.

    They lie close together near the data, where the bound's terms change fast.
    """
    spread = np.geomspace(1, steps, count) - 1
    return sorted({0, steps - 1, *(int(x) for x in spread.round())})


def sizes_from_pilot(positions: Sequence[int], second_moments: Tensor, steps: int) -> Tensor:
    """Return what to draw steps in proportion to, [K]: the root mean square of their terms.

    Between the positions looked at it is interpolated, and a tenth is spread over all steps, so
    that a term that the pilot took for small cannot ruin the estimate.

    Args:
        positions: increasing, 0 and the last step among them.
        second_moments: float64, the mean square of the terms there.
        steps: K.
    """
    log_size = 0.5 * second_moments.clamp(min=1e-30).log()
    where = torch.arange(steps, dtype=torch.float64)
    values = np.interp(where.numpy(), np.asarray(positions, float), log_size.numpy())
    size = torch.from_numpy(np.exp(values))
    rest = size[1:].sum() if steps > 1 else size.sum()
    return 0.9 * size / rest + 0.1 / max(steps - 1, 1)


FEW_ITEMS = 6
"""Number of effective items below which the error of a mean is unreliable."""


def effective_items(values: Tensor) -> float:
    """Return how many items the variance of values [N] rests on, N / kurtosis; N / 3 of a Gaussian.

    It is near 1 where one item decides. NaN where all values are the same.
    """
    squares = (values.double() - values.double().mean()) ** 2
    return float(squares.sum() ** 2 / (squares**2).sum())


def heavy_tailed_error(values: Tensor) -> float:
    """Return the standard error of the mean of values [N], wider where their tails are heavy.

    Rare large terms are missing from most draws, so that the variance of what was drawn is mostly
    too small. It is taken two of its own standard errors higher, sqrt((kurtosis - 3) / N) of it
    each: that is nothing for values with the tails of a Gaussian. NaN of a single value.
    """
    count = len(values)
    if count < 2:
        return math.nan
    variance = float(values.double().var())
    if variance == 0:
        return 0.0
    excess = max(count / effective_items(values) - 3, 0.0)
    return math.sqrt(variance / count * (1 + 2 * math.sqrt(excess / count)))


def warn_of_heavy_tails(values: Tensor) -> str | None:
    """Return a warning if few of the items determine an estimated mean."""
    effective = effective_items(values) if len(values) > 1 else math.nan
    if not effective < min(FEW_ITEMS, len(values) / 4):  # also nan
        return None
    return (
        f"about {effective:.1f} of {len(values)} items with rare large terms determine the "
        "estimate and its error, and the error may still be too small: use more samples per "
        "item or more items, or measure all steps"
    )
