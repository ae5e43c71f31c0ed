"""How far two sets of data lie apart in what a network computes of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

_TINY = 1e-10


def stage_distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Return the mean squared distance of two networks' stages, float64 [N], 0 to 4.

    At every place the channels are brought to a length of 1, so that all stages count alike.

    Args:
        first, second: what each stage computed, [N, C, *spatial] of its own size.

    Source: Zhang et al. 2018 ("LPIPS"), equation 1 without learned weights.
    """
    stages = [_directions(a) - _directions(b) for a, b in zip(first, second, strict=True)]
    apart = [stage.square().sum(dim=1).flatten(1).mean(dim=1) for stage in stages]
    return torch.stack(apart).mean(dim=0)


def _directions(stage: Tensor) -> Tensor:
    stage = stage.double()
    unit: Tensor = stage / (torch.linalg.vector_norm(stage, dim=1, keepdim=True) + _TINY)
    return unit
