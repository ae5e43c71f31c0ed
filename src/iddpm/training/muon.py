"""Muon: momentum with all its singular values set to about one (Jordan et al. 2024).

AdamW divides each entry of an update by its own scale. Muon does so for a matrix as a whole: the
momentum U S V^T of a weight becomes about U V^T, the nearest matrix with orthonormal rows or
columns, so that directions with small gradients are learned as fast as those with large ones.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.training.precision import has_fast_bfloat16

MOMENTUM = 0.95
"""Share of the momentum that a step keeps (Jordan et al. 2024)."""
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial a s + b s^3 + c s^5, which moves every singular value s towards one. They
rise steeply at 0 and do not converge: values oscillate around one."""
RMS = 0.2
"""Root mean square of an update, about that of AdamW's (Liu et al. 2025, section 2.2)."""


def orthogonalized(matrices: Tensor) -> Tensor:
    """Return matrices [B, R, C] with the same singular vectors and singular values of about one.

    Five Newton-Schulz iterations after a division by the Frobenius norm. Singular values above
    1/500 of that norm end between 0.68 and 1.21, smaller ones between 0 and there; zeros stay 0.
    float32 is computed in bfloat16 on devices where that is certainly faster.
    """
    rows, columns = matrices.shape[-2:]
    x = matrices.mT if rows > columns else matrices  # the smaller product
    norms = torch.linalg.matrix_norm(x, keepdim=True)
    x = x / norms.clamp(min=torch.finfo(x.dtype).tiny)
    if x.dtype == torch.float32 and has_fast_bfloat16(x.device):
        x = x.bfloat16()
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x.mT if rows > columns else x


class Muon(torch.optim.Optimizer):
    r"""Orthogonalized momentum for matrices and convolutions, AdamW for other parameters.

    .. math::

        m \leftarrow \mu m + (1 - \mu) g, \qquad
        W \leftarrow (1 - \eta \lambda) W
            - 0.2\, \eta \sqrt{\max(R, C)}\; \mathrm{orth}((1 - \mu) g + \mu m)

    A convolution is the matrix of its output channels by all else, R x C. With the factor of Liu et
    al. 2025 (equation 4) an update has the root mean square of one by AdamW, so that the learning
    rate and the weight decay of AdamW serve both. Equal shapes are computed as one batch.

    The processes of a data-parallel training all compute all updates, from equal gradients.

    Args:
        others: parameters that AdamW trains.
        matrices: weights with the output channels first, [R, ...].
        transposed: weights with the output channels second, [C', R, ...], as those of transposed
            convolutions.
        lr, weight_decay: of all parameters.
        betas: of AdamW.

    >>> layer = nn.Linear(4, 2)
    >>> optimizer = Muon([layer.bias], [layer.weight], lr=0.1)
    >>> before, layer.weight.grad = layer.weight.detach().clone(), torch.randn(2, 4)
    >>> optimizer.step()
    >>> bool((layer.weight.detach() - before).square().mean().sqrt() < 0.03)
    True
    """

    def __init__(
        self,
        others: Iterable[nn.Parameter],
        matrices: Iterable[nn.Parameter],
        transposed: Iterable[nn.Parameter] = (),
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
    ) -> None:
        rest = torch.optim.AdamW(
            [{"params": list(others)}], lr=lr, betas=betas, weight_decay=weight_decay, fused=True
        )
        groups: list[dict[str, Any]] = [
            rest.param_groups[0],
            {"params": list(matrices), "out_axis": 0},
            {"params": list(transposed), "out_axis": 1},
        ]
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self._rest = rest

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Shared, so that one state is saved and one learning rate is set.
        self._rest.state, self._rest.param_groups = self.state, self.param_groups[:1]
        self._rest.step()
        for group in self.param_groups[1:]:
            self._update(group)
        return loss

    def _update(self, group: dict[str, Any]) -> None:
        """Update the matrices of a group, equal shapes at once."""
        weights: list[Tensor] = [p for p in group["params"] if p.grad is not None]
        if not weights:
            return
        gradients: list[Tensor] = [p.grad for p in weights if p.grad is not None]
        momenta = [self._momentum(p) for p in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        ahead = torch._foreach_lerp(gradients, momenta, MOMENTUM)  # Nesterov's form
        if group["weight_decay"]:
            torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        equal: dict[torch.Size, list[int]] = {}
        for index, weight in enumerate(weights):
            equal.setdefault(weight.shape, []).append(index)
        axis = group["out_axis"]
        for shape, indices in equal.items():
            first = ahead[indices[0]].movedim(axis, 0)
            stacked = torch.stack([ahead[i].movedim(axis, 0).flatten(1) for i in indices])
            scale = RMS * math.sqrt(max(stacked.shape[1:]))
            directions = orthogonalized(stacked).unflatten(2, first.shape[1:]).movedim(1, axis + 1)
            assert directions.shape[1:] == shape
            chosen = [weights[i] for i in indices]
            torch._foreach_add_(chosen, list(directions.unbind()), alpha=-group["lr"] * scale)

    def _momentum(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        momentum: Tensor = state["momentum"]
        return momentum
