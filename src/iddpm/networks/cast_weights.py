"""Weights in bfloat16 for many forward passes, so that autocast does not cast them in each."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from iddpm.networks.blocks import ResBlock
from iddpm.networks.convolution import Convolution
from iddpm.networks.layers import TokenLinear


@contextmanager
def cast_weights(network: nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Keep copies of the weights that autocast to ``dtype`` would cast in every forward pass.

    Results under autocast stay the same, bit for bit. This is for convolutions, attention and the
    embedding's linear maps of the built-in networks, on CPUs and for bfloat16; everything else
    stays as it is. Weights have no gradients meanwhile.

    >>> from iddpm import UNet
    >>> network = UNet(
    ...     dims=1, in_channels=1, out_channels=1, model_channels=8, num_res_blocks=1,
    ...     channel_mult=(1,),
    ... )
    >>> with cast_weights(network, torch.bfloat16):
    ...     print(network.middle_block[1].qkv.weight.dtype)
    torch.bfloat16
    >>> network.middle_block[1].qkv.weight.dtype
    torch.float32
    """
    layers = list(network.modules()) if dtype == torch.bfloat16 else []
    linear = [m.emb_layers[1] for m in layers if isinstance(m, ResBlock)]
    linear += [m for m in layers if isinstance(m, TokenLinear)]
    linear = [layer for layer in linear if _casts(layer)]
    convolutions = [m for m in layers if isinstance(m, Convolution) and _casts(m)]
    before = [dict(layer._parameters) for layer in linear]
    try:
        for layer in linear:
            for name, value in layer._parameters.items():
                if value is not None:
                    half = nn.Parameter(value.detach().to(dtype), requires_grad=False)
                    layer._parameters[name] = half
        for conv in convolutions:
            # Beside the weights, since tiny inputs are convolved with those in float32.
            bias = conv._parameters["bias"]
            halves = None if bias is None else bias.detach().to(dtype)
            conv.cast = conv.weight.detach().to(dtype), halves
        yield
    finally:
        for layer, parameters in zip(linear, before, strict=True):
            layer._parameters.update(parameters)
        for conv in convolutions:
            conv.cast = None


def _casts(layer: nn.Module) -> bool:
    """Say whether autocast casts this layer's weights on a CPU; parts of sharded ones are left."""
    weight = layer._parameters.get("weight")
    if weight is None or type(weight) is not nn.Parameter:
        return False
    return weight.device.type == "cpu" and weight.dtype == torch.float32
