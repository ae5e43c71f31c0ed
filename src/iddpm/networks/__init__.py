"""Layers, blocks and networks; no diffusion code."""

from iddpm.networks.encoder import EncoderUNet as EncoderUNet
from iddpm.networks.level_head import FEATURES as FEATURES
from iddpm.networks.level_head import LevelHead as LevelHead
from iddpm.networks.magnitude_unet import MagnitudeSuperResUNet as MagnitudeSuperResUNet
from iddpm.networks.magnitude_unet import MagnitudeUNet as MagnitudeUNet
from iddpm.networks.super_resolution import SuperResUNet as SuperResUNet
from iddpm.networks.unet import NO_CLASS as NO_CLASS
from iddpm.networks.unet import Features as Features
from iddpm.networks.unet import UNet as UNet
from iddpm.networks.wavelets import WaveletNetwork as WaveletNetwork
