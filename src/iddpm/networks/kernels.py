"""The switch between PyTorch's kernels and faster ones for CPUs, which round differently."""

import torch
from torch import nn


class HasFastKernel(nn.Module):
    """The base of layers with a faster kernel for CPUs, taken if ``fast`` is true."""

    fast = False


def use_fast_kernels(network: nn.Module) -> None:
    """Allow the layers of a network that have faster kernels for CPUs to use them.

    The results differ from PyTorch's kernels in rounding. The faster kernels are:

    - normalization, FiLM and SiLU in few passes (:mod:`iddpm.networks.norm_activation`);
    - attention by matrix products in training with bfloat16 (:mod:`iddpm.networks.attention`);
    - dropout from 16 random bits per value (:mod:`iddpm.networks.dropout`).

    On other devices, under torch.compile and in exports, PyTorch's kernels run all the same.

    >>> from iddpm import UNet
    >>> network = UNet(
    ...     dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1,),
    ... )
    >>> use_fast_kernels(network)
    >>> network.out[0].fast
    True
    """
    for module in network.modules():
        if isinstance(module, HasFastKernel):
            module.fast = True


def runs_plainly() -> bool:
    """Say whether PyTorch's own kernels are wanted: a compiler or an export traces the network."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined]
