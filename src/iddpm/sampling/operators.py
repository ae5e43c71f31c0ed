"""Linear operators that measure an item: forward, adjoint and regularized inverse.

A measurement is y = A x + noise. With the singular value decomposition A = U S V^T the regularized
inverse is V S / (S^2 + ratio) U^T. A ratio of 0 makes it the pseudo-inverse; the variance of the
noise over that of the data makes it the best linear estimate for white data. Singular values below
:data:`CUTOFF` times the largest count as 0 there: what they carry is lost in rounding.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

CUTOFF = 1e-3
"""Singular values below so much of the largest are not inverted."""


class Operator(ABC):
    """A known linear map from an item to what is measured of it, on whole batches.

    Attributes:
        shape: (C, *spatial) of an item.

    >>> from iddpm import Mask, Operator
    >>> mask = Mask((1, 3), torch.tensor([True, False, True]))
    >>> isinstance(mask, Operator), mask.norm
    (True, 1.0)
    >>> mask.place(torch.zeros(1, 1, 3), mask.forward(torch.ones(1, 1, 3)))
    tensor([[[1., 0., 1.]]])
    """

    shape: tuple[int, ...]

    @property
    @abstractmethod
    def measured_shape(self) -> tuple[int, ...]:
        """Shape of the measurement of an item."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Return the measurements [N, *measured_shape] of items [N, *shape]."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, [N, *shape]."""

    @abstractmethod
    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return the regularized inverse of y, [N, *shape]; by default the pseudo-inverse.

        Args:
            y: measurements [N, *measured_shape].
            ratio: variance of the noise over that of the data, a number or one for each row [N].
        """

    @property
    @abstractmethod
    def norm(self) -> float:
        """The largest singular value."""

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Return what is nearest to ``x`` among all that have the measurements ``y``."""
        return x + self.inverse(y - self.forward(x))

    def check(self, measured: Tensor) -> None:
        """Raise ValueError unless these are measurements [N, *measured_shape] of the operator."""
        if tuple(measured.shape[1:]) != self.measured_shape:
            raise ValueError(
                f"measurements of shape {tuple(measured.shape[1:])} were given, and the operator "
                f"({self}) maps items of shape {self.shape} to {self.measured_shape}"
            )


@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """Some values are measured and the others are 0 in the measurement.

    Attributes:
        shape: (C, *spatial) of an item.
        measured: bool, broadcasts against an item; true where it is measured.

    >>> mask = Mask((1, 3), torch.tensor([True, False, True]))
    >>> mask.forward(torch.tensor([[[1.0, 2.0, 3.0]]]))
    tensor([[[1., 0., 3.]]])
    """

    shape: tuple[int, ...]
    measured: Tensor

    @property
    def measured_shape(self) -> tuple[int, ...]:
        """That of an item."""
        return self.shape

    def forward(self, x: Tensor) -> Tensor:
        """Return the items with 0 where nothing is measured; what stands there is not read."""
        return torch.where(self.measured.to(x.device), x, torch.zeros_like(x))

    def adjoint(self, y: Tensor) -> Tensor:
        """Return the same."""
        return self.forward(y)

    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return the measured values, shrunk by the ratio."""
        return self.forward(y) / (1 + rows_of(ratio, y))

    @property
    def norm(self) -> float:
        """The largest singular value."""
        return 1.0

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Put the measured values in their places, bit for bit."""
        return torch.where(self.measured.to(x.device), y, x)

    def __str__(self) -> str:
        share = float(self.measured.expand(self.shape).double().mean())
        return f"mask, {100 * share:.3g} percent measured"


@dataclass(frozen=True, eq=False)
class Subsample(Operator):
    """Measure every k-th position along each axis, starting from the first.

    Attributes:
        shape: (C, *spatial) of an item.
        factors: distance of measured positions along each axis.

    >>> every_second = Subsample((1, 4), (2,))
    >>> y = every_second.forward(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]))
    >>> y, every_second.adjoint(y)
    (tensor([[[1., 3.]]]), tensor([[[1., 0., 3., 0.]]]))
    """

    shape: tuple[int, ...]
    factors: tuple[int, ...]

    @property
    def measured_shape(self) -> tuple[int, ...]:
        """(C, *fewer)."""
        return (self.shape[0], *map(_ceil, self.shape[1:], self.factors))

    @property
    def _places(self) -> tuple[slice, ...]:
        return (slice(None), slice(None), *(slice(None, None, f) for f in self.factors))

    def forward(self, x: Tensor) -> Tensor:
        """Return the measured positions."""
        return x[self._places]

    def adjoint(self, y: Tensor) -> Tensor:
        """Return the measurements in their places and 0 elsewhere."""
        x = y.new_zeros((len(y), *self.shape))
        x[self._places] = y
        return x

    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return the measurements in their places, shrunk by the ratio, and 0 elsewhere."""
        return self.adjoint(y / (1 + rows_of(ratio, y)))

    @property
    def norm(self) -> float:
        """The largest singular value."""
        return 1.0

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Put the measured values in their places, bit for bit."""
        x = x.clone()
        x[self._places] = y.to(x)
        return x

    def __str__(self) -> str:
        return f"every {' x '.join(map(str, self.factors))} position"


@dataclass(frozen=True, eq=False)
class Downscale(Operator):
    """The mean of each block is measured.

    Attributes:
        shape: (C, *spatial) of an item.
        factors: length of a block along each axis, which divides that of the item.

    Raises:
        ValueError: blocks that do not divide the item.

    >>> pairs = Downscale((1, 4), (2,))
    >>> y = pairs.forward(torch.tensor([[[1.0, 3.0, 5.0, 7.0]]]))
    >>> y, pairs.inverse(y)
    (tensor([[[2., 6.]]]), tensor([[[2., 2., 6., 6.]]]))
    """

    shape: tuple[int, ...]
    factors: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse blocks that do not fit."""
        if any(n % factor for n, factor in zip(self.shape[1:], self.factors, strict=True)):
            raise ValueError(
                f"items of size {self.shape[1:]} cannot be parted into blocks of {self.factors}"
            )

    @property
    def measured_shape(self) -> tuple[int, ...]:
        """(C, *fewer)."""
        return (self.shape[0], *map(_ceil, self.shape[1:], self.factors))

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of each block."""
        for axis, factor in enumerate(self.factors, start=2):
            x = x.unflatten(axis, (x.shape[axis] // factor, factor)).mean(dim=axis + 1)
        return x

    def adjoint(self, y: Tensor) -> Tensor:
        """Return each measurement over the size of a block in the whole block."""
        return self._spread(y) / math.prod(self.factors)

    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return each measurement in the whole block, shrunk by the ratio."""
        return self._spread(y / (1 + math.prod(self.factors) * rows_of(ratio, y)))

    @property
    def norm(self) -> float:
        """The largest singular value."""
        return 1 / math.sqrt(math.prod(self.factors))

    def _spread(self, y: Tensor) -> Tensor:
        for axis, factor in enumerate(self.factors, start=2):
            y = y.repeat_interleave(factor, axis)
        return y

    def __str__(self) -> str:
        return f"means of blocks of {' x '.join(map(str, self.factors))}"


@dataclass(frozen=True, eq=False)
class Cropped(Operator):
    """An operator on a part of a larger item, whose rest is not measured.

    Attributes:
        inner: the operator on the part.
        size: spatial size of the whole.
        before: how much of it lies before the part, along each axis.
    """

    inner: Operator
    size: tuple[int, ...]
    before: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """(C, *size)."""
        return (self.inner.shape[0], *self.size)

    @property
    def measured_shape(self) -> tuple[int, ...]:
        """That of the inner operator."""
        return self.inner.measured_shape

    @property
    def _part(self) -> tuple[slice, ...]:
        placed = zip(self.before, self.inner.shape[1:], strict=True)
        return (slice(None), slice(None), *(slice(a, a + n) for a, n in placed))

    def forward(self, x: Tensor) -> Tensor:
        """Measure the part."""
        return self.inner.forward(x[self._part])

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y, 0 outside the part."""
        return self._around(self.inner.adjoint(y))

    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return the regularized inverse, 0 outside the part."""
        return self._around(self.inner.inverse(y, ratio))

    @property
    def norm(self) -> float:
        """The largest singular value."""
        return self.inner.norm

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Change the part alone."""
        x = x.clone()
        x[self._part] = self.inner.place(x[self._part], y)
        return x

    def _around(self, part: Tensor) -> Tensor:
        x = part.new_zeros((len(part), *self.shape))
        x[self._part] = part
        return x

    def __str__(self) -> str:
        return str(self.inner)


def rows_of(ratio: Tensor | float, y: Tensor) -> Tensor:
    """Return a number, or one for each row [N], shaped to go with ``y``."""
    values = torch.as_tensor(ratio, device=y.device, dtype=y.dtype)
    return values.reshape(-1, *[1] * (y.dim() - 1))


def _ceil(n: int, factor: int) -> int:
    return -(-n // factor)


def size_of(measured: Sequence[int], factors: Sequence[int]) -> tuple[int, ...]:
    """Return the spatial size of an item from that of its measurement and the factors."""
    return tuple(n * factor for n, factor in zip(measured, factors, strict=True))
