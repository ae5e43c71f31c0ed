"""Whether samples differ among themselves as much as they differ from the truth."""

import math
from typing import NamedTuple

from torch import Tensor

from iddpm.evaluation.distances import Estimate


class Calibration(NamedTuple):
    """What the mean of n samples errs by, and what it should.

    If samples and truth come from one distribution, the mean of n samples has the squared error
    MMSE (1 + 1/n), where MMSE is the variance of that distribution: that of the samples.
    """

    error: Estimate
    """Mean squared error of the mean of n samples."""
    expected: Estimate
    """The samples' variance times (1 + 1/n)."""
    ratio: Estimate
    """Error over expected: 1 if calibrated, more where samples differ too little."""


def calibration(mean: Tensor, variance: Tensor, truth: Tensor, count: int) -> Calibration:
    """Return how the error of the mean of ``count`` samples compares with their spread.

    Args:
        mean: of the samples of each item, [N, C, *spatial].
        variance: theirs, divided by ``count`` - 1.
        truth: the items.
        count: samples of each item, 2 or more.
    """
    errors = (mean.double() - truth.double()).square().flatten(1).mean(dim=1)
    wanted = variance.double().flatten(1).mean(dim=1) * (1 + 1 / count)
    error, expected = Estimate.of_mean(errors), Estimate.of_mean(wanted)
    if expected.value == 0:
        return Calibration(error, expected, Estimate(math.inf, math.nan))
    ratio = error.value / expected.value
    apart = Estimate.of_mean(errors - ratio * wanted)  # of a ratio of two means
    return Calibration(error, expected, Estimate(ratio, apart.error / expected.value))
