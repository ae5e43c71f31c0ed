"""Linear operators of restoration: from a user's options to the operator."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from iddpm.config import ResolvedConfig
from iddpm.config.choices import OPERATORS, listed
from iddpm.data.item import read_mask
from iddpm.data.sources.npy import map_npy
from iddpm.networks.trunk import check_circular
from iddpm.sampling.operators import Downscale, Mask, Operator, Subsample
from iddpm.sampling.spectral_operators import Convolution, Matrix, gaussian_kernel


@dataclass(frozen=True)
class OperatorRequest:
    """Which operator has measured an item; what it does not take is None.

    Attributes:
        name: one of :data:`iddpm.config.choices.OPERATORS`, or a .npy file: a matrix over the
            flattened item, or the kernel of a convolution.
        width: standard deviation of ``blur`` in positions.
        factor: of ``subsample`` and ``downscale``, for all axes or for each.
        mask: of ``mask``: a picture or .npy array, white or 1 where the item is missing.

    Raises:
        ValueError: an unknown operator, an option that it does not take or one that is missing.
    """

    name: str
    width: float | None = None
    factor: tuple[int, ...] | None = None
    mask: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.name not in OPERATORS and not self.is_file:
            raise ValueError(
                f"operator {self.name!r} is unknown: use {listed(OPERATORS)}, or a .npy file"
            )
        wanted = OPERATORS[self.name].settings if self.name in OPERATORS else ""
        given = {"width": self.width, "factor": self.factor, "mask": self.mask}
        for option, value in given.items():
            if value is not None and option != wanted:
                takers = [name for name, row in OPERATORS.items() if row.settings == option]
                raise ValueError(
                    f"{option} is an option of {listed(takers)}, and the operator is {self.name}: "
                    "leave it out"
                )
        if wanted and given[wanted] is None:
            raise ValueError(f"operator {self.name} needs --{wanted}: {OPERATORS[self.name].help}")
        if self.factor is not None and min(self.factor) < 1:
            raise ValueError(f"factor={self.factor} must be 1 or more along each axis")

    @property
    def is_file(self) -> bool:
        """Whether it is read from a file."""
        return self.name.lower().endswith(".npy")

    def factors(self, dims: int) -> tuple[int, ...]:
        """Return the factor by which a measurement is smaller, along each of ``dims`` axes.

        Raises:
            ValueError: factors for another number of axes.
        """
        if self.factor is None:
            return (1,) * dims
        factors = self.factor * dims if len(self.factor) == 1 else self.factor
        if len(factors) != dims:
            raise ValueError(
                f"factor={'x'.join(map(str, self.factor))} must have one number for each of the "
                f"{dims} axes, or one for all"
            )
        return factors


def build_operator(
    config: ResolvedConfig,
    request: OperatorRequest,
    size: Sequence[int],
    picture_size: tuple[int, int] | None = None,
) -> Operator:
    """Return the operator on items of a spatial size.

    Args:
        config: settings of the model.
        request: which operator.
        size: of the items.
        picture_size: of the picture that the item was cropped and resized from, as a mask then is.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an operator that does not fit the items.
    """
    shape = (config.model.channels, *size)
    circular = check_circular(config.model.circular, len(size))
    if request.is_file:
        return _from_file(Path(request.name), shape, circular)
    if request.name == "mask":
        assert request.mask is not None
        return Mask(shape, ~read_mask(request.mask, tuple(size), picture_size))
    if request.name == "blur":
        assert request.width is not None
        return Convolution(shape, gaussian_kernel(request.width, len(size)), circular)
    kind = {"subsample": Subsample, "downscale": Downscale}[request.name]
    return kind(shape, request.factors(len(size)))


def is_matrix(request: OperatorRequest, config: ResolvedConfig) -> bool:
    """Say whether the operator is a matrix over items of the model's size."""
    if not request.is_file:
        return False
    path = Path(request.name)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    shape = map_npy(path).shape
    return len(shape) == 2 and shape[1] == int(np.prod(config.model.shape))


def _from_file(path: Path, shape: tuple[int, ...], circular: Sequence[bool]) -> Operator:
    """Return a matrix, if the array has a row of the item's values; else a convolution."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    array = map_npy(path)
    values, size = int(np.prod(shape)), shape[1:]
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path} holds {array.dtype}, and an operator is an array of real numbers")
    if array.size and not np.isfinite(array).all():
        raise ValueError(f"{path} holds NaN or infinity: an operator is an array of finite numbers")
    weights = torch.from_numpy(np.array(array, dtype=np.float64))
    if array.ndim == 2 and array.shape[0] > 0 and array.shape[1] == values:
        return Matrix(shape, weights)
    fits = array.ndim == len(size) and all(
        0 < k <= n for k, n in zip(array.shape, size, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{path} has shape {array.shape}, which fits no operator on items of shape {shape}: "
            f"save a matrix of {values} columns, or the kernel of a convolution with {len(size)} "
            f"ax{'is' if len(size) == 1 else 'es'} of at most {size}"
        )
    return Convolution(shape, weights, tuple(circular))
