"""Group normalization, FiLM and SiLU in few passes over data that has its channels last."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from iddpm.networks.kernels import runs_plainly
from iddpm.networks.layers import MANY, GroupNorm

NARROW = 4
"""Most channels of a group of which PyTorch's kernel is slower (``benchmarks/network.md``)."""


def norm_activation(
    norm: GroupNorm,
    activation: nn.Module | None,
    x: Tensor,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Return ``activation(norm(x) * (1 + scale) + shift)``, without FiLM if ``scale`` is None.

    Args:
        norm: with a weight and a bias; its ``fast`` allows the passes of :class:`NormActivation`,
            whose sums have another order than PyTorch's. They are taken where they are faster,
            see :func:`fits`.
        activation: ``nn.SiLU`` or another; None for none.
        x: [N, C, *spatial].
        scale, shift: [N, C].
    """
    silu = type(activation) is nn.SiLU
    y: Tensor
    if norm.fast and (silu or activation is None) and fits(norm, x):
        y = NormActivation.apply(
            x, norm.weight, norm.bias, scale, shift, Options(norm.num_groups, norm.eps, silu)
        )
        return y
    h = norm(x)
    if scale is not None and shift is not None:
        axes = (..., *[None] * (x.dim() - 2))
        h = torch.addcmul(shift[axes], h, 1 + scale[axes])
    y = h if activation is None else activation(h)
    return y


class NormActivationSequential(nn.Sequential):
    """A normalization, ``nn.SiLU`` and further layers; the first two in few passes."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply them in order."""
        norm, activation, *others = self
        assert isinstance(norm, GroupNorm)
        x = norm_activation(norm, activation, x)
        for layer in others:
            x = layer(x)
        return x


def fits(norm: GroupNorm, x: Tensor) -> bool:
    """Say whether :class:`NormActivation` is faster: narrow groups of float32, channels last.

    PyTorch's kernel loops over the channels of a group, which is slow for few of them. Without a
    backward pass it has another kernel for many positions.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or runs_plainly():
        return False
    narrow = norm.num_channels <= NARROW * norm.num_groups
    few = norm.training or x.shape[2:].numel() < MANY
    return narrow and few and x.shape[1] > 1 and _rows(x).is_contiguous()


class Options(NamedTuple):
    """The number of groups, what is added to the variance, and whether SiLU follows."""

    groups: int
    eps: float
    silu: bool


class NormActivation(torch.autograd.Function):
    """Normalization, FiLM and SiLU as one affine map per item and channel, then SiLU.

    With the sums of x and of its squares over the positions, mean and deviation of a group give
    a factor and a constant of each channel (Wu & He 2018, equation 1; Perez et al. 2018). Only x
    is kept for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        options: Options,
    ) -> Tensor:
        """Return the result in the layout and type of ``x``."""
        rows = _rows(x)
        gain, offset = _film(weight, bias, scale, shift, rows)
        mean, rstd = _moments(rows, options)
        ctx.save_for_backward(x, weight, bias, scale, shift, mean, rstd)
        ctx.options = options
        factor = rstd * gain
        y = torch.addcmul((offset - mean * factor)[:, None], rows, factor[:, None])
        if options.silu:
            F.silu(y, inplace=True)
        found: Tensor = y.mT.unflatten(2, x.shape[2:])
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, weight, bias, scale and shift."""
        if torch.is_grad_enabled():  # create_graph=True
            return (*_plain_gradients(ctx, gradients[0]), None)
        x, weight, bias, scale, shift, mean, rstd = ctx.saved_tensors
        groups, _, silu = ctx.options
        rows = _rows(x)
        gain, offset = _film(weight, bias, scale, shift, rows)
        dy = _rows(gradients[0]).contiguous()
        if silu:
            factor = rstd * gain
            y = torch.addcmul((offset - mean * factor)[:, None], rows, factor[:, None])
            dy = torch.ops.aten.silu_backward(dy, y)
        d_offset = dy.sum(1)
        d_gain = rstd * ((dy * rows).sum(1) - mean * d_offset)
        # Gradients of the group's mean and deviation, each divided by the values in the group.
        values = rows.shape[1] * rows.shape[2] // groups
        of_mean = _over_groups(gain * d_offset, groups) / values
        of_rstd = rstd * _over_groups(gain * d_gain, groups) / values
        constant = rstd * (of_rstd * mean - of_mean)
        dx = torch.addcmul(constant[:, None], rows, (-rstd * of_rstd)[:, None])
        dx.addcmul_(dy, (rstd * gain)[:, None])
        grads = _parameter_gradients(d_gain, d_offset, weight, bias, scale)
        given = (weight, bias, scale, shift)
        rounded = [None if of is None or g is None else g.to(of.dtype)
                   for g, of in zip(grads, given, strict=True)]  # fmt: skip
        return (dx.mT.unflatten(2, x.shape[2:]), *rounded, None)


def _rows(x: Tensor) -> Tensor:
    """Return [N, C, *spatial] as [N, L, C]."""
    return x.flatten(2).mT


def _over_groups(x: Tensor, groups: int) -> Tensor:
    """Return for each of [N, C] the sum over the channels of its group."""
    parts = x.unflatten(1, (groups, -1))
    sums: Tensor = parts.sum(2, keepdim=True)
    return sums.expand(parts.shape).flatten(1)


def _moments(rows: Tensor, options: Options) -> tuple[Tensor, Tensor]:
    """Return mean and inverse deviation of each channel's group, [N, C], of rows [N, L, C]."""
    groups, eps, _ = options
    values = rows.shape[1] * rows.shape[2] // groups
    mean = _over_groups(rows.sum(1), groups) / values
    square = _over_groups((rows * rows).sum(1), groups) / values
    return mean, ((square - mean * mean).clamp(min=0) + eps).rsqrt()


def _film(
    weight: Tensor, bias: Tensor, scale: Tensor | None, shift: Tensor | None, rows: Tensor
) -> tuple[Tensor, Tensor]:
    """Return factor and constant of the normalized values, [N, C] or [1, C]."""
    gain, offset = weight.to(rows.dtype)[None], bias.to(rows.dtype)[None]
    if scale is None or shift is None:
        return gain, offset
    more = 1 + scale.to(rows.dtype)
    return gain * more, offset * more + shift.to(rows.dtype)


def _parameter_gradients(
    d_gain: Tensor, d_offset: Tensor, weight: Tensor, bias: Tensor, scale: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Return the gradients of weight, bias, scale and shift from those of factor and constant."""
    if scale is None:
        return d_gain.sum(0), d_offset.sum(0), None, None
    more = 1 + scale.to(d_gain.dtype)
    d_scale = torch.addcmul(d_gain * weight, d_offset, bias.to(d_gain.dtype))
    return (d_gain * more).sum(0), (d_offset * more).sum(0), d_scale, d_offset


def _plain_gradients(ctx: Any, gradient: Tensor) -> list[Tensor | None]:
    """Return the gradients by PyTorch's own operations, which can be differentiated again."""
    x, weight, bias, scale, shift, *_ = ctx.saved_tensors
    groups, eps, silu = ctx.options
    axes = (..., *[None] * (x.dim() - 2))
    y = F.group_norm(x, groups, weight.to(x.dtype), bias.to(x.dtype), eps)
    if scale is not None:
        y = torch.addcmul(shift[axes], y, 1 + scale[axes])
    y = F.silu(y) if silu else y
    inputs = [x, weight, bias, scale, shift]
    wanted = [i for i in inputs if i is not None and i.requires_grad]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return [next(found) if i is not None and i.requires_grad else None for i in inputs]
