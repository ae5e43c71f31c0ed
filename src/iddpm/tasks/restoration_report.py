"""What restoration is measured against: estimates without a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iddpm.data.resample import enlarge_bicubic
from iddpm.diffusion.prediction import SIGMA_DATA
from iddpm.evaluation.fidelity import psnr_of_errors, squared_errors
from iddpm.sampling.operators import Downscale, Mask, Operator, Subsample
from iddpm.sampling.spectral_operators import Convolution, gaussian_kernel

WIDEST = 64.0
"""Widest Gaussian, in positions, that gaps of a mask are filled by."""


def baselines(operator: Operator, measured: Tensor, noise: float) -> dict[str, Tensor]:
    """Return estimates [N, C, *spatial] that need no model, by name.

    The inverse of the operator, regularized by the noise for white data about 0. Before it, of a
    convolution, the measurement itself; after it, where values are missing, an interpolation:
    bicubic of means of blocks, a Gaussian mean of the measured neighbors otherwise.
    """
    found = {"measured": measured} if isinstance(operator, Convolution) else {}
    found["pseudo-inverse"] = operator.inverse(measured, noise**2 / SIGMA_DATA**2)
    if isinstance(operator, Downscale):
        found["bicubic"] = enlarge_bicubic(measured, operator.shape[1:])
    elif isinstance(operator, Mask | Subsample):
        found["neighbors"] = _from_neighbors(operator, measured)
    return found


@dataclass(frozen=True, eq=False)
class Quality:
    """How near estimates of some items are to the truth, and to the measurement.

    Attributes:
        errors: float64 [N], the mean squared error of each item.
        misfit: the largest difference between the measurement and what the operator measures of an
            estimate, where the data spans -1 to 1.
    """

    errors: Tensor
    misfit: float


def qualities(
    estimates: Mapping[str, Tensor], truth: Tensor, operator: Operator, measured: Tensor
) -> dict[str, Quality]:
    """Return how near each estimate [N, C, *spatial] is, by name."""
    return {
        name: Quality(
            squared_errors(x, truth),
            float((operator.forward(x.clamp(-1, 1)) - measured).abs().max()),
        )
        for name, x in estimates.items()
    }


def joined(found: Sequence[Mapping[str, Quality]]) -> dict[str, dict[str, float]]:
    """Return PSNR in decibels with its standard error, and misfit, over the items of all files."""
    rows = {}
    for name in found[0]:
        value, error = psnr_of_errors(torch.cat([some[name].errors for some in found]))
        misfit = max(some[name].misfit for some in found)
        rows[name] = {"psnr": value, "standard_error": error, "misfit": misfit}
    return rows


def table(rows: Mapping[str, Mapping[str, float]], items: int) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [
        f"| {items} item{'' if items == 1 else 's'} | PSNR in dB | misfit |",
        "| --- " * 3 + "|",
    ]
    for name, row in rows.items():
        error = "" if items == 1 else f" +- {row['standard_error']:.2g}"
        lines.append(f"| {name} | {row['psnr']:.2f}{error} | {row['misfit']:.2g} |")
    return lines


def _from_neighbors(operator: Mask | Subsample, measured: Tensor) -> Tensor:
    """Fill what is not measured with a Gaussian mean of what is, as narrow as it may be."""
    here = operator.adjoint(torch.ones_like(measured))[:1].double()
    values = operator.adjoint(measured).double()
    x, missing, width = values, here == 0, 0.7
    while bool(missing.any()) and width <= WIDEST:
        kernel = gaussian_kernel(width, len(operator.shape) - 1)
        blur = Convolution(operator.shape, kernel)
        weight = blur.forward(here)
        seen = missing & (weight > 1e-3)
        x = torch.where(seen, blur.forward(values) / weight.clamp(min=1e-6), x)
        missing, width = missing & ~seen, 1.5 * width
    return x.to(measured)
