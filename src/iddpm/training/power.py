"""Power-function averages: their length is a share of the training and can be chosen afterwards.

A power-function average (Karras et al. 2024, section 3) weighs the weights of time tau by a
profile in proportion to tau**gamma. Its length sigma_rel is the profile's standard deviation as a
share of the training so far. Snapshots of two averages, taken at intervals, span nearly all other
profiles: the coefficients of the snapshots are the least-squares solution for the profile (section
3.2 and appendix C) and do not depend on the network.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from iddpm.training.ema import EMA

Floats = NDArray[np.float64]
LONGEST = 12**-0.5
"""Length of the plain average over all of the training, gamma = 0."""


def gamma_of(length: float) -> float:
    """Return the exponent gamma of the profile with this length (appendix C.2).

    The largest root of (gamma + 2)^2 (gamma + 3) length^2 = gamma + 1.

    Raises:
        ValueError: a length outside 0 to 0.2886.
    """
    if not 0 < length < LONGEST:
        raise ValueError(
            "the length of an average is a share of the training above 0 and below "
            f"{LONGEST:.4f}, not {length:g}"
        )
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class PowerEMA(EMA):
    """A network whose weights are a power-function average of another's.

    The n-th update keeps (1 - 1 / n)^(gamma + 1) of the average (equation 2). Its length is
    relative, so it needs no warm-up.

    Args:
        network: the network that is trained; copied.
        length: sigma_rel, such as 0.05.

    >>> ema = PowerEMA(nn.Linear(2, 2), 0.05)
    >>> ema.name, round(ema.gamma, 2)
    ('power_0.05', 16.97)
    """

    def __init__(self, network: nn.Module, length: float) -> None:
        super().__init__(network, 0.0)
        self.length = length
        self.gamma = gamma_of(length)

    @property
    def name(self) -> str:
        """The file name of the average, such as ``power_0.05``."""
        return f"power_{self.length:g}"

    def kept(self) -> float:
        """Return the share of the average that this update keeps."""
        return float((1 - 1 / self.updates) ** (self.gamma + 1))


class Profiles(NamedTuple):
    """Profiles (gamma + 1) / end (tau / end)^gamma for tau up to ``end``; each array [K]."""

    end: Floats
    gamma: Floats


class Fit(NamedTuple):
    """A combination of averages into another one.

    Attributes:
        weights: [K], one for each average; they sum to 1.
        error: of the combined profile, as a share of the wanted one's norm.
    """

    weights: Floats
    error: float


def inner_product(a: Profiles, b: Profiles) -> Floats:
    """Return the integral of the products of profiles, which broadcast (appendix C.3)."""
    first, last = np.minimum(a.end, b.end), np.maximum(a.end, b.end)
    gamma_last = np.where(a.end < b.end, b.gamma, a.gamma)
    factor = (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1)
    product: Floats = factor * (first / last) ** gamma_last / last
    return product


def fit(kept: Profiles, wanted: Profiles) -> Fit:
    """Return the combination of profiles that is closest to another in the mean square.

    The paper's least squares with a constraint: the weights sum to 1, so that a weight of the
    network that never changes is returned unchanged.

    Args:
        kept: [K].
        wanted: one profile, [1].
    """
    count = len(kept.end)
    norm = np.sqrt(inner_product(kept, kept))
    of_wanted = np.sqrt(inner_product(wanted, wanted))
    columns = Profiles(kept.end[:, None], kept.gamma[:, None])
    gram = inner_product(columns, kept) / norm[:, None] / norm
    target = inner_product(kept, wanted) / norm / of_wanted
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = gram
    system[:count, count] = system[count, :count] = of_wanted / norm  # Lagrange
    solution = np.linalg.lstsq(system, np.append(target, 1.0), rcond=None)[0][:count]
    error = 1 - 2 * solution @ target + solution @ gram @ solution
    return Fit(solution * of_wanted / norm, float(np.sqrt(max(error, 0.0))))
