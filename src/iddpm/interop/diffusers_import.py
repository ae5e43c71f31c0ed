"""The configurations of a pipeline folder of diffusers as our settings."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import NoiseSchedule, cosine, linear, zero_terminal_snr
from iddpm.interop.diffusers_export import END, PREDICTIONS, START, VARIANCES

_SCHEDULER = {"thresholding": False, "clip_sample_range": 1.0}
"""Settings of a scheduler for which our sampling has one value."""
_SAME_VARIANCE = {"fixed_small_log": "fixed_small", "fixed_large_log": "fixed_large"}
_FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "freq_shift": (0,),
    "flip_sin_to_cos": (True,),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (1,),
    "act_fn": ("silu", "swish"),
    "norm_eps": (1e-5,),
    "add_attention": (True,),
    "class_embed_type": (None,),
}
"""Settings of UNet2DModel for which our network has one value."""


def model_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the network that a UNet2DModel's configuration describes.

    Raises:
        ValueError: the message names the entry that our network has no counterpart of.
    """
    for name, known in _FIXED.items():
        value = config.get(name, known[0])
        if value not in known:
            raise ValueError(f"UNet2DModel's {name}={value} has no counterpart: {known[0]} has")
    widths = list(config["block_out_channels"])
    dimension = config.get("time_embedding_dim")
    if dimension not in (None, 4 * widths[0]):
        raise ValueError(f"UNet2DModel's time_embedding_dim={dimension} has no counterpart")
    attention, resizes = _levels(config)
    films = config.get("resnet_time_scale_shift", "default") == "scale_shift"
    groups = config.get("norm_num_groups", 32)
    middle = config.get("attn_norm_num_groups")
    if middle not in (groups, *([] if films else [None])):
        raise ValueError(
            f"UNet2DModel's attn_norm_num_groups={middle} has no counterpart: the middle "
            f"attention is normalized in {groups} groups like all other layers"
        )
    heads = config.get("attention_head_dim", 8)
    model = {
        "model_channels": widths[0],
        "channel_mult": [_multiplier(width, widths[0]) for width in widths],
        "num_res_blocks": config.get("layers_per_block", 2),
        "attention_downsampling": [2**level for level in attention],
        "num_heads": 1,
        "num_head_channels": heads,
        "qkv_order": "qkv_first",
        "dropout": config.get("dropout", 0.0),
        "use_scale_shift_norm": films,
        "upsample": "nearest_conv",
        "downsample": "conv",
        "resblock_updown": resizes,
    }
    if config.get("num_class_embeds") is not None:
        model["class_conditional"] = True
    return model


def _multiplier(width: int, base: int) -> float:
    """Return the factor whose product with ``base``, rounded down, is ``width``."""
    exact = width / base
    return exact if int(exact * base) == width else (width + 0.25) / base


def _levels(config: Mapping[str, Any]) -> tuple[list[int], bool]:
    """Return the levels with attention, and whether residual blocks resize."""
    down, up = list(config["down_block_types"]), list(config["up_block_types"])[::-1]
    attention = [k for k, name in enumerate(down) if name == "AttnDownBlock2D"]
    mirrored = [k for k, name in enumerate(up) if name == "AttnUpBlock2D"]
    known = {"DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"}
    known |= {"UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"}
    for name in (*down, *up):
        if name not in known:
            raise ValueError(f"UNet2DModel's block {name} has no counterpart")
    if attention != mirrored:
        raise ValueError(
            f"UNet2DModel's attention at the levels {attention} down and {mirrored} up has no "
            "counterpart: ours is at the same levels"
        )
    resized = set()
    kinds = (config.get("downsample_type", "conv"), config.get("upsample_type", "conv"))
    for names, kind, last in ((down[:-1], kinds[0], "Down"), (up[1:], kinds[1], "Up")):
        for name in names:
            plain = {f"{last}Block2D": "conv", f"Resnet{last}sampleBlock2D": "resnet"}
            resized.add(plain.get(name, kind))
    if len(resized) > 1 or not resized <= {"conv", "resnet"}:
        raise ValueError(
            f"UNet2DModel's resizing by {' and '.join(sorted(resized))} has no counterpart: ours "
            "is of one kind everywhere"
        )
    return attention, resized == {"resnet"}


def diffusion_settings(config: Mapping[str, Any], learned: bool) -> dict[str, Any]:
    """Return the settings of the process that a scheduler's configuration describes.

    Args:
        config: that of a DDPMScheduler or DDIMScheduler.
        learned: whether the network has twice the channels of its data.

    Raises:
        ValueError: the message names the entry that our process has no counterpart of.
    """
    for name, value in _SCHEDULER.items():
        if config.get(name, value) != value:
            raise ValueError(
                f"the scheduler's {name}={config[name]} has no counterpart: {value} has"
            )
    kinds = {theirs: ours for ours, theirs in PREDICTIONS.items()}
    prediction = config.get("prediction_type", "epsilon")
    if prediction not in kinds:
        raise ValueError(f"prediction_type={prediction} has no counterpart")
    steps = config.get("num_train_timesteps", 1000)
    variance = config.get("variance_type", "fixed_small")
    variance = _SAME_VARIANCE.get(variance, variance)
    if learned != variance.startswith("learned") or variance not in VARIANCES:
        raise ValueError(
            f"variance_type={variance} has no counterpart for a network with "
            f"{'twice ' if learned else ''}the channels of its data"
        )
    betas = _betas_of(config, steps)
    zero = bool(config.get("rescale_betas_zero_snr", False))
    candidates: dict[str, NoiseSchedule] = {"cosine": cosine(steps)}
    if END * 1000 / steps < 1:
        candidates["linear"] = linear(steps)
    for name, schedule in candidates.items():
        for ends_in_noise in (False, True):
            ours = zero_terminal_snr(schedule) if ends_in_noise else schedule
            if torch.allclose(ours.betas, betas, rtol=1e-4, atol=1e-9) and (
                not zero or not ends_in_noise
            ):
                return {
                    "schedule": name,
                    "num_steps": steps,
                    "rescale_timesteps": steps == 1000,
                    "zero_terminal_snr": ends_in_noise or zero,
                    "predicts": kinds[prediction],
                    "variance": variance,
                    "loss": "hybrid" if learned else "simple",
                }
    raise ValueError(
        f"beta_schedule={config.get('beta_schedule', 'linear')} from "
        f"{config.get('beta_start', START)} to {config.get('beta_end', END)} in {steps} steps "
        f"has no counterpart: ours are linear from {START * 1000 / steps:g} to "
        f"{END * 1000 / steps:g}, and cosine"
    )


def _betas_of(config: Mapping[str, Any], steps: int) -> Tensor:
    """Return the betas of a scheduler, float64 [steps], before any of its rescaling."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float64)
    start, end = config.get("beta_start", START), config.get("beta_end", END)
    kind = config.get("beta_schedule", "linear")
    if kind == "linear":
        return torch.linspace(start, end, steps, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        return cosine(steps).betas
    return torch.full((steps,), float("nan"), dtype=torch.float64)


def pipeline_settings(
    unet: Mapping[str, Any], scheduler: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that a pipeline's two configurations stand for, and facts of its data.

    Raises:
        ValueError: an entry that our network or process has no counterpart of.
    """
    channels, out = unet.get("in_channels", 3), unet.get("out_channels", 3)
    size = unet.get("sample_size")
    if size is None:
        raise ValueError("UNet2DModel's config.json states no sample_size, which a run needs")
    if out not in (channels, 2 * channels):
        raise ValueError(f"UNet2DModel's out_channels={out} do not belong to {channels} channels")
    sizes = [size, size] if isinstance(size, int) else list(size)
    process = diffusion_settings(scheduler, learned=out == 2 * channels)
    ddim = scheduler["_class_name"] == "DDIMScheduler"
    leading = scheduler.get("timestep_spacing", "leading") == "leading"
    settings = {
        "data": {"image_size": sizes[0] if sizes[0] == sizes[1] else sizes},
        "model": model_settings(unet),
        "diffusion": process,
        "training": {"label_dropout": 0.0} if unet.get("num_class_embeds") else {},
        "sampling": {
            "sampler": "ddim" if ddim else "ddpm",
            "spacing": "ddim" if ddim and leading else "even",
            "steps": min(50, process["num_steps"]) if ddim else process["num_steps"],
            "clip": scheduler.get("clip_sample", True),
        },
    }
    classes = unet.get("num_class_embeds")
    model = {"channels": channels, "size": sizes}
    if classes is not None:
        model["num_classes"] = classes
    return settings, {"model": model, "class_names": [str(k) for k in range(classes or 0)]}
