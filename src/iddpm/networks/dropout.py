"""Dropout from 16 random bits per value."""

import torch
from torch import Tensor, nn

from iddpm.networks.kernels import HasFastKernel, runs_plainly

_LANES = 4
"""Values that one random integer of 64 bits serves."""


class Dropout(HasFastKernel, nn.Dropout):
    """``nn.Dropout``, by default; with ``fast`` it draws 16 bits per value on CPUs.

    The probability is then rounded to a multiple of 2^-16, and kept values are divided by exactly
    the share that is kept, so that the mean is unbiased.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return [N, ...] with some values zero, the others scaled."""
        dropped = round(self.p * 2**16)
        plain = not (self.fast and self.training and 0 < dropped < 2**16) or runs_plainly()
        if plain or x.device.type != "cpu" or not x.is_floating_point():
            return super().forward(x)
        count = -(-x.numel() // _LANES)
        bits = torch.empty(count, dtype=torch.int64).random_(-(2**63), None)
        keep = bits.view(torch.int16)[: x.numel()] >= dropped - 2**15
        # In the order of x in memory, which for channels last is not that of its axes.
        strides = x.stride()
        order = sorted(range(x.dim()), key=lambda axis: (-strides[axis], axis))
        ordered = keep.view([x.shape[axis] for axis in order])
        mask = ordered.permute([order.index(axis) for axis in range(x.dim())])
        return x * (mask.to(x.dtype) * (2**16 / (2**16 - dropped)))
