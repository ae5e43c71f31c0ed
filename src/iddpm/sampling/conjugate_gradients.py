"""Linear systems of a batch, each row by itself."""

from collections.abc import Callable

import torch
from torch import Tensor


def conjugate_gradients(
    apply: Callable[[Tensor], Tensor], b: Tensor, *, steps: int, tolerance: float = 1e-6
) -> Tensor:
    """Return z with ``apply(z) = b``, for each row of a batch by itself.

    A row ends where its residual has fallen to ``tolerance`` times that of 0, and where ``apply``
    is found not to be positive there, so that nothing is divided by it.

    Args:
        apply: a symmetric positive map of tensors like ``b`` that keeps rows apart.
        b: [N, ...].
        steps: most calls of ``apply``.
        tolerance: of the residual.
    """
    z, r, p = torch.zeros_like(b), b, b
    size = _dot(r, r)
    goal, going = tolerance**2 * size, size > 0
    for _ in range(steps):
        going = going & (size > goal)
        if not bool(going.any()):
            break
        q = apply(p)
        curvature = _dot(p, q)
        going = going & (curvature > 0)
        step = torch.where(going, size / torch.where(going, curvature, 1), 0)
        z = z + step.to(b) * p
        r = r - step.to(b) * q
        new = _dot(r, r)
        p = r + torch.where(going, new / torch.where(going, size, 1), 0).to(b) * p
        size = torch.where(going, new, size)
    return z


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner product of each row, float64 [N, 1, ...]."""
    product = (a.double() * b.double()).flatten(1).sum(dim=1)
    return product.reshape(-1, *[1] * (a.dim() - 1))
