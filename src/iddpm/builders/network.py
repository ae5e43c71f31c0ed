"""Networks, the diffusion process and denoisers."""

import copy
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from iddpm.builders.load_choice import load
from iddpm.config import ConditionConfig, ResolvedConfig, UNetModel
from iddpm.config.choices import SCHEDULES
from iddpm.config.model import OF_GROUP_NORM
from iddpm.data.conditioned_augmentation import count_parameters
from iddpm.diffusion import Denoiser, GaussianDiffusion, show_log_snr, zero_terminal_snr
from iddpm.networks import (
    FEATURES,
    EncoderUNet,
    LevelHead,
    MagnitudeSuperResUNet,
    MagnitudeUNet,
    SuperResUNet,
    UNet,
    WaveletNetwork,
)
from iddpm.networks.blocks import CheckpointEngine
from iddpm.networks.condition_embedding import ConditionKind
from iddpm.networks.costs import channels_last
from iddpm.networks.kernels import use_fast_kernels
from iddpm.networks.neighborhood import local_channels
from iddpm.networks.trunk import TrunkOptions, check_circular, check_stride
from iddpm.networks.wavelets import Basis

_UNETS: Mapping[str, tuple[Any, Any]] = {
    "group_norm": (UNet, SuperResUNet),
    "magnitude_preserving": (MagnitudeUNet, MagnitudeSuperResUNet),
}
"""Networks by ``model.layers``: of data alone, and of data and its low resolution."""


def build_network(config: ResolvedConfig, own: nn.Module | None = None) -> nn.Module:
    """Return the network of resolved settings: the U-Net, or a copy of an own one."""
    if isinstance(config.model, UNetModel):
        built: nn.Module = build_unet(config, config.model)
        model = config.model
        levels = halvings(model.wavelets, model.patch)
        if levels:
            dims = len(config.model.size)
            strides = check_stride(config.model.stride, dims)
            rings = check_circular(config.model.circular, dims)
            basis: Basis = "haar" if model.wavelets else "patch"
            built = WaveletNetwork(built, strides, levels, rings, basis)
    elif own is not None:
        built = copy.deepcopy(own)
    else:
        raise ValueError(
            f"model.network={config.model.network} is your own network, which a run never "
            "imports: pass it as network=... or --network package.module:factory"
        )
    if not config.diffusion.gives_levels:
        return built
    assert config.bits is not None
    return LevelHead(
        built,
        config.model.channels,
        2**config.bits,
        radius=config.diffusion.neighborhood,
        circular=check_circular(config.model.circular, len(config.model.size)),
    )


def count_outputs(config: ResolvedConfig) -> int:
    """Return the number of output channels without those of the variance."""
    diffusion, channels = config.diffusion, config.model.channels
    if not diffusion.gives_levels:
        return channels
    local = local_channels(channels, len(config.model.size), diffusion.neighborhood)
    return channels * (FEATURES + diffusion.learns_decoder) + local


def count_inputs(config: ResolvedConfig) -> int:
    """Return the number of input channels: noisy data, Fourier features and an earlier estimate."""
    diffusion = config.diffusion
    return config.model.channels * (1 + 2 * diffusion.fourier_features + diffusion.self_condition)


def count_bands(model: UNetModel) -> int:
    """Return the number of values of a channel at one position of the network's grid."""
    halved = check_stride(model.stride, len(model.size)).count(2)
    return int(2 ** (halved * halvings(model.wavelets, model.patch)))


def halvings(wavelets: int, patch: int) -> int:
    """Return how often wavelets, or patches of 1, 2 or 4 positions, halve the grid."""
    return wavelets or patch.bit_length() - 1


def build_unet(config: ResolvedConfig, model: UNetModel) -> UNet:
    """Build the U-Net of resolved settings.

    Its input and output channels follow from the settings of the process.
    """
    network, super_resolution = _UNETS[model.layers]
    if config.scale is not None:
        network = partial(super_resolution, noise_levels=config.degradation.augment > 0)
    learned = config.diffusion.variance.startswith("learned")
    bands = count_bands(model)
    options = {
        "upsample": model.upsample,
        "smooth_start": model.smooth_start,
        **_trunk_options(config, model),
    }
    if model.layers != "group_norm":
        options = {name: value for name, value in options.items() if name not in OF_GROUP_NORM}
    built: UNet = network(
        in_channels=bands * count_inputs(config),
        out_channels=bands * (count_outputs(config) + (model.channels if learned else 0)),
        num_heads_upsample=model.num_heads_upsample,
        num_classes=model.num_classes,
        conditions=[_kind(condition) for condition in (model.conditions or {}).values()],
        given_channels=bands * (model.given_channels or 0),
        numbers=() if config.distillation is None else config.distillation.numbers,
        augmentation=count_parameters(len(model.size)) if config.data.augment else 0,
        **options,
    )
    return built


def least_group(model: UNetModel) -> int | None:
    """Return the fewest channels of a normalization group, None where there are no groups."""
    return (model.group_channels or 1) if model.layers == "group_norm" else None


def _kind(condition: ConditionConfig) -> ConditionKind:
    if condition.names is not None:
        return len(condition.names)
    return "number" if condition.period is None else "periodic"


def build_encoder(config: ResolvedConfig) -> EncoderUNet:
    """Build the classifier of resolved settings: the downward half of the U-Net and a pool.

    Raises:
        ValueError: fewer than two classes.
    """
    model = config.model
    assert isinstance(model, UNetModel)
    if len(config.class_names) < 2:
        raise ValueError(
            f"a classifier needs at least two classes, and the data has {len(config.class_names)}"
        )
    return EncoderUNet(
        image_size=model.size,
        in_channels=model.channels,
        out_channels=len(config.class_names),
        # With groups of one channel, a mean over positions after the normalization would lose all
        # but the shape of its distribution.
        pool=model.pool or "attention",
        **_trunk_options(config, model),
    )


def _trunk_options(config: ResolvedConfig, model: UNetModel) -> TrunkOptions:
    """Return the common options of the U-Net and the classifier."""
    return TrunkOptions(
        dims=len(model.size),
        model_channels=model.model_channels,
        num_res_blocks=model.num_res_blocks,
        channel_mult=model.channel_mult,
        attention_downsampling=model.attention_downsampling,
        num_heads=model.num_heads,
        num_head_channels=model.num_head_channels,
        qkv_order=model.qkv_order,
        dropout=model.dropout,
        use_scale_shift_norm=model.use_scale_shift_norm,
        downsample=model.downsample,
        resblock_updown=model.resblock_updown,
        stride=model.stride,
        circular=model.circular,
        group_channels=model.group_channels or 1,
        use_checkpoint=model.use_checkpoint,
        checkpoint_engine=_checkpoint_engine(config),
    )


def _checkpoint_engine(config: ResolvedConfig) -> CheckpointEngine:
    """Choose PyTorch's engine where the autograd Function does not work.

    torch.compile does not support it, and FSDP replaces its parameters.
    """
    training = config.training
    return "torch" if training.compile or training.parallel == "fsdp" else "function"


def place(network: nn.Module, device: torch.device, kernels: str | None = None) -> None:
    """Move a network to its device, in place, in the layout that is fastest there.

    On CPUs 2-D convolutions are faster with the channels last (``benchmarks/network.md``); an own
    network may rely on its layout, and is left as it is. ``kernels`` is the setting
    ``training.kernels``; None is ``"plain"``.
    """
    if kernels == "fast" and device.type == "cpu":
        use_fast_kernels(network)
    network.to(device)
    convolves = any(parameter.dim() == 4 for parameter in network.parameters())
    if device.type == "cpu" and channels_last(network) and convolves:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_diffusion(config: ResolvedConfig) -> GaussianDiffusion:
    """Build the process."""
    diffusion = config.diffusion
    row = SCHEDULES[diffusion.schedule]
    stated = {name: getattr(diffusion, name) for name in row.settings}
    schedule = load(row.home)(
        diffusion.num_steps,
        rescale_timesteps=diffusion.rescale_timesteps,
        **{name: value for name, value in stated.items() if value is not None},
    )
    if diffusion.zero_terminal_snr:
        schedule = zero_terminal_snr(schedule)
    if diffusion.time_input == "log_snr":
        schedule = show_log_snr(schedule)
    return GaussianDiffusion(schedule, diffusion.variance)


def build_denoiser(config: ResolvedConfig, network: Any) -> Denoiser:
    """Combine a network and the process."""
    diffusion = config.diffusion
    return Denoiser(
        network,
        build_diffusion(config),
        diffusion.predicts,
        sigma_data=diffusion.sigma_data,
        fourier=diffusion.fourier_features,
        bits=config.bits,
        decoder=diffusion.decoder or "gaussian",
        self_condition=diffusion.self_condition,
        residual_scale=residual_scale(config),
    )


def residual_scale(config: ResolvedConfig) -> tuple[float, ...] | None:
    """Return the unit of each channel's residual; None if the data itself is diffused.

    It is 1 if it has not been measured yet, for networks that are only counted.
    """
    if not config.diffusion.residual:
        return None
    return config.diffusion.residual_scale or (1.0,) * config.model.channels
