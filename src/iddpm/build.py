"""From settings to objects: the only file that knows every room."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from iddpm.config import Config, HybridLoss, VLBLoss, validate
from iddpm.data.augment import Augmentation, horizontal_flip, random_crop
from iddpm.data.sources.open import open_source
from iddpm.data.sources.source import Source
from iddpm.diffusion import (
    Denoise,
    Denoiser,
    GaussianDiffusion,
    NoiseSchedule,
    cosine,
    linear,
    losses,
)
from iddpm.networks import SuperResUNet, UNet
from iddpm.networks.layers import MAX_GROUPS
from iddpm.networks.trunk import level_widths
from iddpm.sampling import (
    DDIM,
    DDPM,
    IPNDM,
    DPMSolverPP,
    Heun,
    Sampler,
    UniPC,
    classifier_free,
    clip_x0,
    even_timesteps,
    karras_timesteps,
    log_snr_timesteps,
)
from iddpm.training.loop import LoopSettings
from iddpm.training.step import Loss
from iddpm.training.timesteps import (
    LossSecondMomentTimesteps,
    TimestepSampler,
    UniformTimesteps,
)

DEFAULT_BATCH = 64
_MULTIPLIERS = (
    (256, (1, 1, 2, 2, 4, 4)),
    (128, (1, 1, 2, 3, 4)),
    (64, (1, 2, 3, 4)),
    (32, (1, 2, 2, 2)),
    (12, (1, 2, 2)),
    (0, (1, 2)),
)
"""Smallest size and its width factors; the upper four are the published ones."""


def open_data(config: Config) -> Source:
    """Open the data that the settings name."""
    data = config.data
    if data.path is None:
        raise ValueError(
            "no data given: name a folder of images, a .npy or .npz file, or an embedded set"
        )
    return open_source(
        data.path,
        image_size=data.image_size,
        channels=data.channels,
        labels=data.labels,
        corrupt=data.corrupt,
        layout=data.layout,
    )


def resolve(config: Config, source: Source | None = None, train_items: int = 0) -> Config:
    """Return the settings with everything that was left to be derived filled in.

    Args:
        config: settings as the user gave them.
        source: the data, or None to build from the stated facts alone.
        train_items: items to train on, when there is data.

    Raises:
        ValueError: a stated fact that the data contradicts, or one that is missing.
    """
    values = config.model_dump()
    model, training = values["model"], values["training"]
    if source is not None:
        _hold(model, "channels", source.shape[0], source.name)
        _hold(model, "size", tuple(source.shape[1:]), source.name)
        values["class_names"] = source.class_names
        values["bits"] = source.bits
        if model["class_conditional"]:
            if source.labels is None:
                raise ValueError(
                    f"model.class_conditional=true needs labels and {source.name} has none: "
                    "set data.labels, or model.class_conditional=false"
                )
            _hold(model, "num_classes", len(source.class_names), source.name)
        if training["batch_size"] is None:
            training["batch_size"] = min(DEFAULT_BATCH, max(train_items, 1))
        if training["epochs"] is not None:
            steps = round(training["epochs"] * train_items / training["batch_size"])
            training["steps"] = max(steps, 1)
            training["epochs"] = None  # said in steps now, which a resume may change
    for name in ("channels", "size", *(["num_classes"] if model["class_conditional"] else [])):
        if model[name] is None:
            raise ValueError(f"model.{name} must be stated to build a network without data")
    largest = max(model["size"])
    if model["channel_mult"] is None:
        model["channel_mult"] = next(mult for least, mult in _MULTIPLIERS if largest >= least)
    if model["attention_downsampling"] is None:
        factors = [2**level for level in range(len(model["channel_mult"]))]
        near = tuple(f for f in factors if 7 <= -(-largest // f) <= 16)
        model["attention_downsampling"] = near or (factors[-1],)
    widths = level_widths(model["model_channels"], model["channel_mult"])
    if not model["use_scale_shift_norm"] and max(widths) <= MAX_GROUPS:
        raise ValueError(
            f"model.use_scale_shift_norm=false needs a level of more than {MAX_GROUPS} channels "
            f"and the levels have {', '.join(map(str, widths))}: with one channel per "
            "normalization group the timestep's addition is normalized away"
        )
    resolved = validate(values)
    check_guidance(resolved, resolved.sampling.guidance)
    return resolved


def _hold(model: dict[str, Any], name: str, found: Any, where: str) -> None:
    """Fill in a fact of the data, or hold a stated one against it."""
    stated = model[name]
    if stated is not None and stated != found:
        raise ValueError(f"model.{name}={stated} was stated, and {where} has {found}")
    model[name] = found


def build_network(config: Config) -> UNet:
    """Build the network of resolved settings; its output channels follow from the variance."""
    model = config.model
    assert model.channels is not None
    assert model.size is not None
    assert model.channel_mult is not None
    assert model.attention_downsampling is not None
    network = SuperResUNet if config.task == "super_resolution" else UNet
    learned = config.diffusion.variance.startswith("learned")
    return network(
        dims=len(model.size),
        in_channels=model.channels,
        out_channels=model.channels * (2 if learned else 1),
        model_channels=model.model_channels,
        num_res_blocks=model.num_res_blocks,
        channel_mult=model.channel_mult,
        attention_downsampling=model.attention_downsampling,
        num_heads=model.num_heads,
        num_head_channels=model.num_head_channels,
        num_heads_upsample=model.num_heads_upsample,
        qkv_order=model.qkv_order,
        dropout=model.dropout,
        num_classes=model.num_classes,
        use_scale_shift_norm=model.use_scale_shift_norm,
        upsample=model.upsample,
        smooth_start=model.smooth_start,
        downsample=model.downsample,
        resblock_updown=model.resblock_updown,
        stride=model.stride,
        use_checkpoint=model.use_checkpoint,
        # torch.compile refuses a hand-written autograd Function.
        checkpoint_engine="torch" if config.training.compile else "function",
    )


def place(network: nn.Module, device: torch.device) -> None:
    """Move a network to its device, in place, in the layout that is fastest there.

    On CPUs 2-D convolutions are faster with the channels last (``benchmarks/network.md``).
    """
    network.to(device)
    if device.type == "cpu" and any(parameter.dim() == 4 for parameter in network.parameters()):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def build_diffusion(config: Config) -> GaussianDiffusion:
    """Build the process."""
    diffusion = config.diffusion
    make = linear if diffusion.schedule == "linear" else cosine
    schedule = make(diffusion.num_steps, rescale_timesteps=diffusion.rescale_timesteps)
    return GaussianDiffusion(schedule, diffusion.variance)


def build_denoiser(config: Config, network: Any) -> Denoiser:
    """Join a network and the process."""
    return Denoiser(network, build_diffusion(config), config.diffusion.predicts)


def build_loss(config: Config) -> Loss:
    """Return the loss with its options filled in."""
    loss = config.diffusion.loss
    if isinstance(loss, VLBLoss):
        return partial(losses.vlb, bits=config.bits)
    if isinstance(loss, HybridLoss):
        return partial(losses.hybrid, vb_weight=loss.vb_weight, space=loss.space, bits=config.bits)
    return partial(losses.simple, space=loss.space)


def build_timesteps(config: Config) -> TimestepSampler:
    """Build the distribution over timesteps."""
    num_steps = config.diffusion.num_steps
    if config.training.timestep_sampler == "loss_second_moment":
        return LossSecondMomentTimesteps(num_steps)
    return UniformTimesteps(num_steps)


def build_optimizer(config: Config, network: nn.Module) -> torch.optim.AdamW:
    """Build AdamW, fused: one pass over all weights."""
    training = config.training
    return torch.optim.AdamW(
        network.parameters(),
        lr=training.learning_rate,
        betas=training.betas,
        weight_decay=training.weight_decay,
        fused=True,
    )


def build_loop_settings(config: Config) -> LoopSettings:
    """Return what the loop needs to know."""
    training = config.training
    return LoopSettings(
        total_steps=training.steps,
        learning_rate=training.learning_rate,
        warmup_steps=training.warmup_steps,
        anneal=training.anneal == "linear",
        log_every=training.log_every,
        save_every=training.save_every,
        save_seconds=None if training.save_minutes is None else 60 * training.save_minutes,
        keep_checkpoints=training.keep_checkpoints,
        preview_every=training.preview_every,
        validate_every=training.validate_every,
        max_seconds=training.max_time,
        max_bad_steps=training.max_bad_steps,
    )


def build_augmentations(config: Config) -> list[Augmentation]:
    """Return the augmentations in the order they are applied."""
    chosen: list[Augmentation] = []
    if config.data.random_crop:
        chosen.append(random_crop)
    if config.data.flip:
        chosen.append(horizontal_flip)
    return chosen


def build_sampler(name: str, eta: float = 0.0) -> Sampler:
    """Return the sampler of that name.

    Raises:
        ValueError: no such sampler, or an ``eta`` for one that has none.
    """
    if eta and name != "ddim":
        raise ValueError(f"eta={eta:g} is an option of sampler ddim, and {name} was asked for")
    samplers: dict[str, Callable[[], Sampler]] = {
        "ddpm": DDPM,
        "ddim": lambda: DDIM(eta),
        "heun": Heun,
        "ipndm": IPNDM,
        "dpmpp_2m": lambda: DPMSolverPP(2),
        "dpmpp_3m": lambda: DPMSolverPP(3),
        "dpmpp_2m_sde": lambda: DPMSolverPP(2, stochastic=True),
        "unipc_2": lambda: UniPC(2),
        "unipc_3": lambda: UniPC(3),
    }
    if name not in samplers:
        raise ValueError(f"sampler {name!r} is unknown: use {', '.join(samplers)}")
    return samplers[name]()


def count_steps(sampler: str, evaluations: int) -> int:
    """Return how many steps so many network evaluations are; Heun's takes two but for the last."""
    return (evaluations + 1) // 2 if sampler == "heun" else evaluations


def build_sampling_schedule(
    whole: NoiseSchedule, sampler: str, evaluations: int, spacing: str = "auto"
) -> NoiseSchedule:
    """Return the steps that a sampler visits with so many network evaluations.

    Args:
        whole: the process that was trained.
        sampler: its name.
        evaluations: network evaluations per sample.
        spacing: ``"even"``, ``"log_snr"``, ``"karras"``, or ``"auto"``: even for DDPM and DDIM,
            log-SNR for the higher-order solvers, which need it at few steps.

    Raises:
        ValueError: more steps than the process has, or none; an unknown spacing.
    """
    count = count_steps(sampler, evaluations)
    if spacing == "auto":
        spacing = "even" if sampler in ("ddpm", "ddim") else "log_snr"
    if spacing == "even":
        return whole.respace(even_timesteps(len(whole), count))
    if spacing == "log_snr":
        return whole.respace(log_snr_timesteps(whole, count))
    if spacing == "karras":
        return whole.respace(karras_timesteps(whole, count))
    raise ValueError(f"spacing {spacing!r} is unknown: use auto, even, log_snr or karras")


def guide(config: Config, denoiser: Denoiser, guidance: float) -> Denoise:
    """Return the model with guidance and clipping around it, as the settings want it.

    Raises:
        ValueError: guidance for a model that was not trained for it.
    """
    check_guidance(config, guidance)
    denoise: Denoise = denoiser if guidance == 1 else classifier_free(denoiser, guidance)
    return clip_x0(denoise) if config.sampling.clip else denoise


def check_guidance(config: Config, guidance: float) -> None:
    """Raise ValueError unless the model is, or will be, trained for this guidance scale."""
    if guidance == 1:
        return
    if not config.model.class_conditional:
        raise ValueError(
            f"guidance={guidance:g} needs a class-conditional model, and this one has "
            "model.class_conditional=false"
        )
    if not config.training.label_dropout:
        raise ValueError(
            f"guidance={guidance:g} needs labels to be dropped in training, and this model has "
            "training.label_dropout=0"
        )


def default_run_directory(path: str) -> Path:
    """Return where a run on this data goes when nothing is said: ``runs/NAME``."""
    name = Path(path).resolve().stem if Path(path).exists() else path
    return Path("runs") / name
