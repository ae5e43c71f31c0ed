"""Noise assigned to near items of a batch ("immiscible diffusion", Li et al. 2024)."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from iddpm.diffusion.losses import LossTerms
from iddpm.runtime.seeds import stream

BOUND_SHARE = 0.125
"""Share of the items that keep their own noise for a bound in the loss."""


@dataclass(frozen=True)
class NearestNoise:
    """Exchange noise between the items of a batch so that data and noise are near each other.

    The exchange has the least sum of squared distances between data and noise (linear assignment).
    It is a permutation: all of the noise is used once, and its distribution stays normal. Noise and
    data of an item are no longer independent, which the variational bound assumes. A share of the
    items therefore keeps its own noise, and the bound counts at these alone.

    Args:
        independent_share: that share; 0 for a loss without the bound.

    >>> items = torch.tensor([[[1.0]], [[-1.0]]])
    >>> noise = torch.tensor([[[-0.5]], [[0.5]]])
    >>> NearestNoise().assigned(items, noise, torch.tensor([False, False])).flatten().tolist()
    [0.5, -0.5]
    """

    independent_share: float = 0.0

    def independent(self, seed: int, step: int, count: int) -> Tensor:
        """Return which of the ``count`` items of a step keep their own noise, bool [count]."""
        drawn = stream(seed, "independent noise", step=step).random(count)
        return torch.from_numpy(drawn < self.independent_share)

    def assigned(self, x0: Tensor, noise: Tensor, independent: Tensor) -> Tensor:
        """Return the noise [n, ...] of each item of ``x0`` [n, ...]."""
        rows = (~independent).nonzero().flatten().to(x0.device)
        # Of the squared distances only the products depend on the order.
        products = (x0[rows].flatten(1) @ noise[rows].flatten(1).T).cpu().numpy()
        # Items that are not finite are reported by the loss.
        _, chosen = _solver()(np.nan_to_num(products), maximize=True)
        result = noise.clone()
        result[rows] = noise[rows[torch.from_numpy(chosen).to(rows.device)]]
        return result

    def counted(self, terms: LossTerms, independent: Tensor) -> LossTerms:
        """Return terms whose bound counts at ``independent`` items alone and keeps its mean."""
        if terms.vb is None or not self.independent_share:
            return terms
        factor = independent.to(terms.vb) / self.independent_share
        return LossTerms(terms.loss + (factor - 1) * terms.vb, terms.mse, factor * terms.vb)


def _solver() -> Any:
    """Return scipy's solver, which takes a tenth of a second to import.

    Raises:
        ValueError: scipy is not installed.
    """
    try:
        return import_module("scipy.optimize").linear_sum_assignment
    except ImportError:
        raise ValueError(
            "training.noise_assignment=nearest needs scipy: pip install scipy"
        ) from None


def check_solver() -> None:
    """Raise ValueError if the solver is not installed."""
    _solver()
