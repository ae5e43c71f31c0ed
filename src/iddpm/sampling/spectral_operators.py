"""Convolutions and matrices, which are inverted by their spectrum."""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from iddpm.sampling.conjugate_gradients import conjugate_gradients
from iddpm.sampling.operators import CUTOFF, Operator, rows_of

BLUR_REACH = 4.0
"""Standard deviations after which a Gaussian kernel ends."""
SOLVER_STEPS = 500
"""Most steps of an inverse that is computed iteratively."""
POWER_STEPS = 50
"""Steps of the power iteration for the largest singular value."""


@dataclass(frozen=True, eq=False)
class Convolution(Operator):
    """Every channel is convolved with a kernel; ends are mirrored, or the axis is a ring.

    Mirrored between positions, as ``scipy.ndimage.convolve(mode="reflect")`` has it. A kernel that
    is even along every mirrored axis, as a blur is, commutes with the mirrors: Fourier modes of the
    mirrored item diagonalize the operator, and its inverse is exact. Of other kernels the inverse
    is found by conjugate gradients.

    Attributes:
        shape: (C, *spatial) of an item.
        kernel: weights, one axis for each spatial axis; its middle is at ``length // 2``.
        circular: which axes are rings; by default none.

    >>> mean = Convolution((1, 4), torch.full((3,), 1 / 3))
    >>> y = mean.forward(torch.tensor([[[0.0, 0.0, 3.0, 3.0]]]))
    >>> [round(float(v), 3) for v in y[0, 0]]
    [0.0, 1.0, 2.0, 3.0]
    """

    shape: tuple[int, ...]
    kernel: Tensor
    circular: tuple[bool, ...] = ()

    @property
    def measured_shape(self) -> tuple[int, ...]:
        """That of an item."""
        return self.shape

    @cached_property
    def _mirrored(self) -> list[int]:
        """Axes of a batch whose ends are mirrored."""
        rings = self.circular or (False,) * (len(self.shape) - 1)
        return [axis for axis, ring in enumerate(rings, start=2) if not ring]

    @cached_property
    def _period(self) -> list[int]:
        """Lengths of the axes after mirroring."""
        sizes = enumerate(self.shape[1:], start=2)
        return [n * (2 if axis in self._mirrored else 1) for axis, n in sizes]

    @cached_property
    def _response(self) -> Tensor:
        """Fourier transform of the kernel on the mirrored grid, complex128 without batch axes."""
        grid = torch.zeros(self._period, dtype=torch.float64)
        places = []
        for axis, (length, period) in enumerate(zip(self.kernel.shape, self._period, strict=True)):
            place = (torch.arange(length) - length // 2) % period
            places.append(place.reshape([-1 if k == axis else 1 for k in range(len(self._period))]))
        index = [place.expand(self.kernel.shape) for place in places]
        grid.index_put_(tuple(index), self.kernel.double(), accumulate=True)
        response: Tensor = torch.fft.rfftn(grid)
        return response

    @cached_property
    def _even(self) -> bool:
        """Whether the kernel is its own mirror image along every mirrored axis."""
        grid = torch.fft.irfftn(self._response, self._period)
        largest = float(grid.abs().max())
        return all(
            torch.allclose(grid, grid.roll(-1, axis - 2).flip(axis - 2), atol=1e-9 * largest)
            for axis in self._mirrored
        )

    def _filtered(self, x: Tensor, response: Tensor) -> Tensor:
        """Multiply the Fourier transform of a periodic [N, C, *period]."""
        axes = list(range(2, x.dim()))
        modes = torch.fft.rfftn(x, dim=axes)
        filtered: Tensor = torch.fft.irfftn(modes * response.to(modes), self._period, dim=axes)
        return filtered

    def _extended(self, x: Tensor) -> Tensor:
        for axis in self._mirrored:
            x = torch.cat([x, x.flip(axis)], dim=axis)
        return x

    def _cropped(self, x: Tensor) -> Tensor:
        for axis in self._mirrored:
            x = x.narrow(axis, 0, self.shape[axis - 1])
        return x

    def forward(self, x: Tensor) -> Tensor:
        """Return the convolved items."""
        return self._cropped(self._filtered(self._extended(x), self._response))

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y: what lies beyond the ends is folded back."""
        x = y
        for axis in self._mirrored:
            x = torch.cat([x, torch.zeros_like(x)], dim=axis)
        x = self._filtered(x, self._response.conj())
        for axis in self._mirrored:
            inside, beyond = x.chunk(2, dim=axis)
            x = inside + beyond.flip(axis)
        return x

    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return the regularized inverse."""
        if not self._even:
            least = (CUTOFF * self.norm) ** 2
            ridge = rows_of(ratio, y).clamp(min=least)
            solved = conjugate_gradients(
                lambda z: self.forward(self.adjoint(z)) + ridge * z, y, steps=SOLVER_STEPS
            )
            return self.adjoint(solved)
        power = self._response.abs().square().to(y.device)
        kept = power > (CUTOFF * self.norm) ** 2
        whole = power + rows_of(ratio, y).double()
        gain = torch.where(kept, self._response.conj().to(y.device) / whole.clamp(min=1e-300), 0)
        return self._cropped(self._filtered(self._extended(y), gain))

    @cached_property
    def norm(self) -> float:
        """The largest singular value; of a kernel that is not even, by power iteration."""
        if self._even:
            return float(self._response.abs().max())
        generator = torch.Generator().manual_seed(0)
        x = torch.rand((1, 1, *self.shape[1:]), generator=generator, dtype=torch.float64)
        size = 0.0
        for _ in range(POWER_STEPS):
            x = self.adjoint(self.forward(x / x.norm()))
            size = float(x.norm()) ** 0.5
        return size

    def __str__(self) -> str:
        ends = "mirrored ends" if self._mirrored else "periodic"
        return f"convolution with {' x '.join(map(str, self.kernel.shape))} weights, {ends}"


@dataclass(frozen=True, eq=False)
class Matrix(Operator):
    """A matrix [M, C * prod(spatial)] over the flattened item (C order, channels first).

    Attributes:
        shape: (C, *spatial) of an item.
        weights: the matrix.

    Raises:
        ValueError: a matrix for items of another number of values.

    >>> total = Matrix((1, 2), torch.tensor([[1.0, 1.0]]))
    >>> total.forward(torch.tensor([[[2.0, 4.0]]]))
    tensor([[6.]])
    >>> [round(float(v), 3) for v in total.inverse(torch.tensor([[6.0]])).flatten()]
    [3.0, 3.0]
    """

    shape: tuple[int, ...]
    weights: Tensor

    def __post_init__(self) -> None:
        """Refuse a matrix that does not fit."""
        if self.weights.dim() != 2 or self.weights.shape[1] != math.prod(self.shape):
            raise ValueError(
                f"the operator has shape {tuple(self.weights.shape)}, and items of shape "
                f"{self.shape} need a matrix of {math.prod(self.shape)} columns"
            )

    @property
    def measured_shape(self) -> tuple[int, ...]:
        """(M,)."""
        return (len(self.weights),)

    @cached_property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """U, S and V^T in float64."""
        u, s, vh = torch.linalg.svd(self.weights.double(), full_matrices=False)
        return u, s, vh

    def forward(self, x: Tensor) -> Tensor:
        """Return A x."""
        # In float64, which autocast does not turn into half precision.
        return (x.flatten(1).double() @ self.weights.to(x.device).double().T).to(x)

    def adjoint(self, y: Tensor) -> Tensor:
        """Return A^T y."""
        x = y.double() @ self.weights.to(y.device).double()
        return x.to(y).reshape(len(y), *self.shape)

    def inverse(self, y: Tensor, ratio: Tensor | float = 0.0) -> Tensor:
        """Return the regularized inverse."""
        u, s, vh = (part.to(y.device) for part in self._parts)
        kept = s > CUTOFF * self.norm
        gain = torch.where(kept, s / (s**2 + rows_of(ratio, y).double()).clamp(min=1e-300), 0)
        return ((y.double() @ u * gain) @ vh).to(y).reshape(len(y), *self.shape)

    @cached_property
    def norm(self) -> float:
        """The largest singular value."""
        return float(self._parts[1].max())

    def __str__(self) -> str:
        return f"a matrix of {len(self.weights)} x {self.weights.shape[1]}"


def gaussian_kernel(width: float, dims: int) -> Tensor:
    """Return a Gaussian of standard deviation ``width`` positions along each axis, of sum 1.

    Raises:
        ValueError: a width that is not positive and finite.

    >>> kernel = gaussian_kernel(0.5, dims=2)
    >>> kernel.shape, round(float(kernel.sum()), 6)
    (torch.Size([5, 5]), 1.0)
    """
    if not 0 < width < math.inf:
        raise ValueError(f"a blur of width {width:g} is none: give a positive number of positions")
    reach = max(1, round(BLUR_REACH * width))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1, dtype=torch.float64) / width) ** 2)
    kernel = torch.ones((), dtype=torch.float64)
    for _ in range(dims):
        kernel = kernel[..., None] * line
    return kernel / kernel.sum()
