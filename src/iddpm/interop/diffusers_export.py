"""Our settings as the configurations of a pipeline folder of diffusers.

Only classes of its own: UNet2DModel, DDPMScheduler, DDIMScheduler and their pipelines.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from iddpm.diffusion import GaussianDiffusion, NoiseSchedule, cosine, linear
from iddpm.interop.diffusers_names import Layout
from iddpm.networks.trunk import level_widths

VERSION = "0.42.0"
"""The version of diffusers whose files these are."""
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCES = {
    "learned_range": "learned_range",
    "fixed_small": "fixed_small",
    "fixed_large": "fixed_large",
}
_BETAS_TOLERANCE = 1e-6
START, END = 1e-4, 0.02


def layout_of(model: Mapping[str, Any]) -> Layout:
    """Return what the names of weights depend on, from the resolved settings of a network."""
    widths = level_widths(model["model_channels"], model["channel_mult"])
    heads = model["num_head_channels"]
    factors = model["attention_downsampling"]
    return Layout(
        levels=len(widths),
        num_res_blocks=model["num_res_blocks"],
        attention=frozenset(round(math.log2(factor)) for factor in factors),
        resblock_updown=model["resblock_updown"],
        widths=widths,
        num_heads={w: w // heads if heads else model["num_heads"] for w in widths},
        qkv_first=model["qkv_order"] == "qkv_first",
    )


def unet_config(settings: Mapping[str, Any], groups: set[int]) -> dict[str, Any]:
    """Return the configuration of the UNet2DModel that computes the same.

    Args:
        settings: all settings of a run, resolved, as a nested mapping.
        groups: the numbers of groups of its normalizations.

    Raises:
        ValueError: the message names the setting that UNet2DModel does not have.
    """
    _check_expressible(settings, groups)
    model = settings["model"]
    layout = layout_of(model)
    resizes = layout.resblock_updown
    learned = settings["diffusion"]["variance"].startswith("learned")
    plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
    if not resizes:
        plain = ("DownBlock2D", "UpBlock2D")
    down = ["AttnDownBlock2D" if k in layout.attention else plain[0] for k in range(layout.levels)]
    up = ["AttnUpBlock2D" if k in layout.attention else plain[1] for k in range(layout.levels)]
    size = list(model["size"])
    (count,) = groups
    films = model["use_scale_shift_norm"]
    return {
        "_class_name": "UNet2DModel",
        "_diffusers_version": VERSION,
        "sample_size": size[0] if size[0] == size[1] else size,
        "in_channels": model["channels"],
        "out_channels": model["channels"] * (2 if learned else 1),
        "center_input_sample": False,
        "time_embedding_type": "positional",
        "freq_shift": 0,
        "flip_sin_to_cos": True,
        "down_block_types": down,
        "mid_block_type": "UNetMidBlock2D",
        "up_block_types": up[::-1],
        "block_out_channels": list(layout.widths),
        "layers_per_block": layout.num_res_blocks,
        "mid_block_scale_factor": 1,
        "downsample_padding": 1,
        "downsample_type": "resnet" if resizes else "conv",
        "upsample_type": "resnet" if resizes else "conv",
        "dropout": model["dropout"],
        "act_fn": "silu",
        "attention_head_dim": _head_width(layout),
        "norm_num_groups": count,
        # With scale-shift the middle attention normalizes only where this says so.
        "attn_norm_num_groups": count if films else None,
        "norm_eps": 1e-5,
        "resnet_time_scale_shift": "scale_shift" if films else "default",
        "add_attention": True,
        "class_embed_type": None,
        "num_class_embeds": model["num_classes"] if model["class_conditional"] else None,
    }


def _check_expressible(settings: Mapping[str, Any], groups: set[int]) -> None:
    model, diffusion = settings["model"], settings["diffusion"]
    layout = layout_of(model) if model["network"] is None else None
    size, needed = model["size"], 2 ** (len(model["channel_mult"] or ()) - 1)
    convolves = not model["resblock_updown"] and len(model["channel_mult"] or ()) > 1
    refused = {
        f"task={settings['task']}": settings["task"] != "generation",
        f"model.network={model['network']}": layout is None,
        f"model.num_res_blocks={model['num_res_blocks']}": not isinstance(
            model["num_res_blocks"], int
        ),
        f"model.layers={model['layers']}": model["layers"] != "group_norm",
        f"model.size={size} of {len(size)} axes": len(size) != 2,
        "model.conditions": bool(model["conditions"]),
        "model.given_channels": bool(model["given_channels"]),
        "data.augment": bool(settings["data"]["augment"]),
        "diffusion.self_condition=true": diffusion["self_condition"],
        f"model.upsample={model['upsample']} (it has nearest_conv)": convolves
        and model["upsample"] != "nearest_conv",
        f"model.downsample={model['downsample']} (it has conv)": convolves
        and model["downsample"] != "conv",
        f"model.stride={model['stride']}": 1 in (model["stride"] or ()),
        "model.circular": model["circular"] is True or True in _axes(model["circular"]),
        f"model.channel_mult={model['channel_mult']}, whose first is not 1": layout is not None
        and layout.widths[0] != model["model_channels"],
        f"model.num_heads_upsample={model['num_heads_upsample']}": model["num_heads_upsample"]
        not in (None, model["num_heads"]),
        f"model.size={size}, which the levels do not divide by {needed}": any(
            n % needed for n in size
        ),
        f"model.group_channels={model['group_channels']} (normalizations of "
        f"{' and '.join(map(str, sorted(groups)))} groups)": len(groups) != 1,
    }
    for setting, applies in refused.items():
        if applies:
            raise ValueError(f"diffusers' UNet2DModel has no counterpart of {setting}")
    assert layout is not None
    _head_width(layout)


def _axes(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list | tuple) else ()


def _head_width(layout: Layout) -> int | None:
    """Return the width of every head, None for one head at every level."""
    used = sorted({layout.widths[k] for k in layout.attention} | {layout.widths[-1]})
    widths = {width // layout.num_heads[width] for width in used}
    if all(layout.num_heads[width] == 1 for width in used):
        return None
    if len(widths) > 1:
        raise ValueError(
            "diffusers' UNet2DModel has no counterpart of model.num_heads="
            f"{layout.num_heads[used[0]]} at {' and '.join(map(str, used))} channels, where heads "
            "differ in width: it has one width (model.num_head_channels)"
        )
    return widths.pop()


def scheduler_config(
    diffusion: GaussianDiffusion, predicts: str, *, clip: bool, ddim: bool
) -> dict[str, Any]:
    """Return the configuration of the DDPMScheduler or DDIMScheduler with the same betas.

    Args:
        diffusion: the process.
        predicts: what the network predicts.
        clip: whether the estimate of the data is kept within [-1, 1].
        ddim: whether steps are DDIM's, which learned variances have none of in diffusers.

    Raises:
        ValueError: the message names the setting that the schedulers do not have.
    """
    schedule = diffusion.schedule
    if predicts not in PREDICTIONS:
        raise ValueError(f"diffusers has no counterpart of diffusion.predicts={predicts}")
    if diffusion.variance not in VARIANCES:
        raise ValueError(f"diffusers has no counterpart of diffusion.variance={diffusion.variance}")
    if not torch.equal(schedule.shown, schedule.index.double()):
        stated = f"rescale_timesteps=true with diffusion.num_steps={len(schedule)}"
        if not torch.allclose(schedule.shown, schedule.index.double() * (1000 / len(schedule))):
            stated = "time_input=log_snr"
        raise ValueError(
            f"diffusers has no counterpart of diffusion.{stated}: it shows the network the step "
            "itself"
        )
    config: dict[str, Any] = {
        "_diffusers_version": VERSION,
        "num_train_timesteps": len(schedule),
        **_betas(schedule),
        "prediction_type": PREDICTIONS[predicts],
        "clip_sample": clip,
        "clip_sample_range": 1.0,
        "timestep_spacing": "leading",
        "steps_offset": 0,
    }
    if ddim and not diffusion.learns_variance:
        return {"_class_name": "DDIMScheduler", **config, "set_alpha_to_one": True}
    variance = VARIANCES[diffusion.variance]
    return {"_class_name": "DDPMScheduler", **config, "variance_type": variance}


def _betas(schedule: NoiseSchedule) -> dict[str, Any]:
    """Return the name of a schedule of diffusers, or the betas themselves."""
    steps = len(schedule)
    start, end = START * 1000 / steps, END * 1000 / steps
    named: dict[str, Any] = {"beta_start": start, "beta_end": end, "trained_betas": None}
    if end < 1 and _same(schedule, linear(steps)):
        return {"beta_schedule": "linear", **named}
    if _same(schedule, cosine(steps)):
        return {"beta_schedule": "squaredcos_cap_v2", **named}
    return {"beta_schedule": "linear", **named, "trained_betas": schedule.betas.tolist()}


def _same(schedule: NoiseSchedule, other: NoiseSchedule) -> bool:
    return bool(torch.allclose(schedule.betas, other.betas, rtol=_BETAS_TOLERANCE, atol=0))
