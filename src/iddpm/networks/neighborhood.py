"""An estimate of each value of noisy data from the noisy values around it, in float32.

A network says how much each neighbor counts, as in kernel-predicting networks (Bako et al. 2017;
Mildenhall et al. 2018). The average is taken of the data itself: a network in bfloat16 cannot
return it to a fraction of a level, and need not learn to.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor


def local_channels(channels: int, dims: int, radius: int) -> int:
    """Return the number of channels of :func:`local_estimate`'s ``said``; 0 for a radius of 0.

    They are a shift and a log-precision for each channel of the data, a coefficient for each pair
    of channels, and a logit for each neighbor.
    """
    return channels * (channels + 1) + (2 * radius + 1) ** dims - 1 if radius else 0


def local_estimate(x: Tensor, said: Tensor, radius: int, circular: Sequence[bool] = ()) -> Tensor:
    """Return the center, the shift and the log-precision of an estimate of each value.

    The center of channel c is m_c + sum over the other channels d of b_cd (x_d - m_d), where m is
    the mean of the neighbors, weighted by a softmax of their logits. Neighbors outside the data do
    not count; along a circular axis there are none outside.

    Args:
        x: noisy data, [N, C, *spatial].
        said: what the network says, [N, :func:`local_channels`, *spatial].
        radius: how many positions away neighbors are at most, along each axis.
        circular: whether each axis is a ring.

    Returns:
        [N, 3 C, *spatial], of the type of ``x``.
    """
    channels, size = x.shape[1], x.shape[2:]
    pairs = channels * (channels - 1)
    shift, log_precision, slopes, logits = said.to(x.dtype).split(
        [channels, channels, pairs, said.shape[1] - 2 * channels - pairs], dim=1
    )
    offsets = [o for o in itertools.product(range(-radius, radius + 1), repeat=len(size)) if any(o)]
    absent = ~torch.stack([_inside(o, size, circular, x.device) for o in offsets])
    weights = torch.softmax(logits.masked_fill(absent, torch.finfo(x.dtype).min), dim=1)
    axes = tuple(range(2, x.dim()))
    mean = torch.zeros_like(x)
    for k, offset in enumerate(offsets):
        mean = mean.addcmul(weights[:, k : k + 1], torch.roll(x, [-o for o in offset], axes))
    center = mean
    if pairs:
        away = x - mean
        others = [[d for d in range(channels) if d != c] for c in range(channels)]
        away = away[:, list(itertools.chain(*others))]
        moved = (slopes * away).unflatten(1, (channels, channels - 1))
        center = mean + moved.sum(dim=2)
    return torch.cat([center, shift, log_precision], dim=1)


def _inside(
    offset: Sequence[int], size: Sequence[int], circular: Sequence[bool], device: torch.device
) -> Tensor:
    """Return at which positions there is a neighbor at an offset, [*spatial]."""
    there = torch.ones(tuple(size), dtype=torch.bool, device=device)
    for axis, (step, count) in enumerate(zip(offset, size, strict=True)):
        if axis < len(circular) and circular[axis]:
            within = torch.full((count,), abs(step) < count, device=device)
        else:
            at = torch.arange(count, device=device) + step
            within = (at >= 0) & (at < count)
        there &= within.reshape(-1, *[1] * (len(size) - 1 - axis))
    return there
