"""How near outputs come to the truth that each of them stands for."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from iddpm.evaluation.distances import Estimate
from iddpm.evaluation.fidelity import psnr_of_errors, squared_errors
from iddpm.evaluation.similarity import similarities
from iddpm.tasks.fidelity_ways import SAMPLES
from iddpm.tasks.pairs import Pairs

AT_ONCE = 32
"""Items compared at a time: the window of SSIM takes eleven times their memory in float64."""
PAIRED = "paired data"


def compare_pairs(pairs: Pairs, samples: Tensor) -> dict[str, Any]:
    """Return how near samples come to the items whose paired data they were drawn from, for JSON.

    Where the paired data has the channels of the items, it is itself compared with them: a model
    should come nearer than what it is given.
    """
    truth = pairs.truth()
    ways: dict[str, Tensor] = {SAMPLES: samples}
    given = pairs.given.get("given")
    if given is not None and given.shape == truth.shape:
        ways[PAIRED] = given
    return compare_with_truth({name: [(x, truth)] for name, x in ways.items()})


def compare_with_truth(
    ways: Mapping[str, Iterable[tuple[Tensor, Tensor]]],
) -> dict[str, Any]:
    """Return PSNR and SSIM of several ways to make the same items, for JSON.

    Args:
        ways: by name, batches [N, C, *spatial] in [-1, 1] of outputs and of the truth.
    """
    found, count = {}, 0
    for name, batches in ways.items():
        errors, alike = [], []
        for x, truth in batches:
            for one, other in zip(x.split(AT_ONCE), truth.split(AT_ONCE), strict=True):
                errors.append(squared_errors(one, other))
                alike.append(similarities(one, other))
        count = len(torch.cat(errors))
        found[name] = {
            "psnr": psnr_of_errors(torch.cat(errors))._asdict(),
            "ssim": Estimate.of_mean(torch.cat(alike))._asdict(),
        }
    return {"count": count, "ways": found}
