"""Arithmetic on tensors: layers, blocks and networks; knows nothing of diffusion."""

from iddpm.networks.encoder import EncoderUNet
from iddpm.networks.level_head import FEATURES, LevelHead
from iddpm.networks.super_resolution import SuperResUNet
from iddpm.networks.unet import NO_CLASS, Features, UNet
from iddpm.networks.wavelets import WaveletNetwork

__all__ = [
    "FEATURES",
    "NO_CLASS",
    "EncoderUNet",
    "Features",
    "LevelHead",
    "SuperResUNet",
    "UNet",
    "WaveletNetwork",
]
