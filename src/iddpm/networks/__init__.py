"""Arithmetic on tensors: layers, blocks and networks; knows nothing of diffusion."""

from iddpm.networks.encoder import EncoderUNet
from iddpm.networks.super_resolution import SuperResUNet
from iddpm.networks.unet import NO_CLASS, Features, UNet

__all__ = ["NO_CLASS", "EncoderUNet", "Features", "SuperResUNet", "UNet"]
