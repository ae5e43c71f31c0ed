"""Layers, blocks and networks; no diffusion code."""

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
