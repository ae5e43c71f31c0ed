"""Published flags as our settings."""

from collections.abc import Mapping
from typing import Any

from iddpm.interop.openai import constructor_from_flags, diffusion_from_flags, translate_arguments
from iddpm.interop.published_flags import SAMPLING, family_of, read_flags
from iddpm.interop.published_weights import Facts, Kind

WITHOUT_COUNTERPART: dict[str, str] = {
    "base_samples": "low-resolution inputs are given to iddpm upscale",
    "classifier_path": "a classifier is given to iddpm sample --classifier",
    "classifier_scale": "it is given to iddpm sample --classifier-scale",
    "classifier_use_fp16": "sampling.precision sets the precision",
    "data_dir": "the data is given to iddpm train",
    "eval_interval": "training.validate_every",
    "fp16_scale_growth": "the scale of fp16 is PyTorch's own",
    "local_rank": "torchrun starts several processes",
    "model_path": "the file is given to iddpm import",
    "noised": "a classifier is always trained on noisy items",
    "num_samples": "their number is given to iddpm sample -n",
    "resume_checkpoint": "iddpm train --resume continues a run",
    "use_fp16": "training.precision and sampling.precision set the precision",
    "val_data_dir": "a share of the data is held out (data.held_out)",
}
"""Flags that are no setting of a run, and what there is instead."""
OF_OTHERS = {
    "network": {
        "classifier_width",
        "classifier_depth",
        "classifier_attention_resolutions",
        "classifier_use_scale_shift_norm",
        "classifier_resblock_updown",
        "classifier_pool",
        "iterations",
        "anneal_lr",
    },
    "classifier": {
        "num_channels",
        "num_res_blocks",
        "num_heads",
        "num_heads_upsample",
        "num_head_channels",
        "attention_resolutions",
        "channel_mult",
        "dropout",
        "class_cond",
        "use_checkpoint",
        "use_scale_shift_norm",
        "resblock_updown",
        "use_new_attention_order",
        "learn_sigma",
        "use_kl",
        "predict_xstart",
        "rescale_learned_sigmas",
        "timestep_respacing",
        "use_ddim",
        "clip_denoised",
        "large_size",
        "small_size",
        "lr_anneal_steps",
    },
}
"""Flags that a diffusion model, or a classifier, shares a command line with."""
_TRAINING = {
    "lr": "learning_rate",
    "weight_decay": "weight_decay",
    "log_interval": "log_every",
    "save_interval": "save_every",
}
_MODEL = (
    "model_channels",
    "num_res_blocks",
    "channel_mult",
    "attention_downsampling",
    "num_heads",
    "num_heads_upsample",
    "num_head_channels",
    "qkv_order",
    "dropout",
    "use_scale_shift_norm",
    "upsample",
    "downsample",
    "resblock_updown",
    "use_checkpoint",
    "pool",
)


def settings_from_flags(family: str, flags: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return the settings that published flags stand for, the rest at the family's defaults.

    Facts of the data (channels, size, classes) are not among them; see :func:`facts_as_settings`.

    Args:
        family: whose flags.
        flags: names and values, as text or of their types.
        facts: what the network was made for.

    Returns:
        A nested mapping, such as ``{"model": {"model_channels": 128}}``.

    Raises:
        ValueError: an unknown flag, a value of another type, or sizes that do not go together.
    """
    read = read_flags(flags, family)
    source, kwargs = constructor_from_flags(family, read, facts)
    _, ours = translate_arguments(source, kwargs)
    classifier, upsampler = "Encoder" in source, "SuperRes" in source
    size = read.get("large_size", 256) if upsampler else read.get("image_size", 64)
    settings: dict[str, Any] = {}
    if classifier:
        settings["task"] = "classification"
    if upsampler:
        small = read.get("small_size", 64)
        if small < 1 or size % small:
            raise ValueError(f"large_size={size} is not a multiple of small_size={small}")
        settings |= {"task": "super_resolution", "scale": size // small}
    settings["data"] = {"image_size": size, "channels": facts.channels}
    if facts.channels not in (1, 3, 4):
        del settings["data"]["channels"]
    if family_of(family) == "guided-diffusion":
        settings["data"]["flip"] = True  # its loader mirrors at random
    settings["model"] = {name: _plain(ours[name]) for name in _MODEL if name in ours}
    if ours.get("num_classes") is not None:
        settings["model"]["class_conditional"] = True
    settings["diffusion"] = _diffusion(family, read, classifier)
    if upsampler:
        settings["diffusion"]["residual"] = False  # theirs draw the data itself
    settings["training"] = _training(family, read, classifier)
    settings["sampling"] = {} if classifier else _sampling(family, read)
    return {name: value for name, value in settings.items() if value not in ({}, None)}


def facts_as_settings(family: str, flags: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """Return what is known of the data that a published network was trained on, as settings."""
    read = read_flags(flags, family)
    source, kwargs = constructor_from_flags(family, read, facts)
    size = read.get("large_size", 256) if "SuperRes" in source else read.get("image_size", 64)
    model: dict[str, Any] = {"channels": facts.channels, "size": [size, size]}
    classes = kwargs.get("num_classes")
    if classes is not None:
        model["num_classes"] = classes
    if "Encoder" in source:
        classes = facts.classes
    names = [] if classes is None else [str(k) for k in range(classes)]
    return {"model": model, "class_names": names}


def without_counterpart(flags: Mapping[str, Any], kind: Kind | None = None) -> dict[str, str]:
    """Return which of the flags are no setting of such a network, and what there is instead."""
    others = OF_OTHERS["classifier" if kind == "classifier" else "network"]
    sizes = {"upsampler": ("image_size",), "network": ("large_size", "small_size")}
    left: dict[str, str] = {}
    for name in flags:
        if name in WITHOUT_COUNTERPART:
            left[name] = WITHOUT_COUNTERPART[name]
        elif name in others or name in sizes.get(kind or "", ()):
            left[name] = "it describes another network than this"
    return left


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _diffusion(family: str, flags: Mapping[str, Any], classifier: bool) -> dict[str, Any]:
    process, predicts = diffusion_from_flags(family, flags)
    steps = len(process.schedule)
    improved = family_of(family) == "improved-diffusion"
    settings = {
        "schedule": flags.get("noise_schedule", "linear"),
        "num_steps": steps,
        "rescale_timesteps": flags.get("rescale_timesteps", improved),
    }
    if classifier:
        return settings
    loss: Any = "simple"
    if flags.get("use_kl", False):
        loss = "vlb"
    elif process.variance == "learned_range":
        rescale = flags.get("rescale_learned_sigmas", improved)
        loss = {"kind": "hybrid", "vb_weight": 0.001 if rescale else 1 / steps}
    return {**settings, "predicts": predicts, "variance": process.variance, "loss": loss}


def _training(family: str, flags: Mapping[str, Any], classifier: bool) -> dict[str, Any]:
    """Return the settings of training, those that their scripts have fixed included."""
    settings: dict[str, Any] = {
        "learning_rate": 3e-4 if classifier else 1e-4,
        "ema_warmup": False,
        "gradient_clip": None,
    }
    if flags.get("class_cond", False) and not classifier:
        settings["label_dropout"] = 0.0  # no network of theirs knows what no class is
    if classifier:
        settings["clean_share"] = 0.0
    settings |= {_TRAINING[name]: flags[name] for name in _TRAINING if name in flags}
    if "batch_size" in flags and not SAMPLING.keys() & flags.keys():
        settings["batch_size"] = flags["batch_size"]
    if flags.get("microbatch", -1) > 0:
        settings["microbatch"] = flags["microbatch"]
    if flags.get("ema_rate"):
        settings["ema_rates"] = list(flags["ema_rate"])
    length = flags.get("iterations" if classifier else "lr_anneal_steps", 0)
    if length > 0:
        settings["steps"] = length
        if not classifier or flags.get("anneal_lr", False):
            settings["anneal"] = "linear"
    if flags.get("schedule_sampler", "uniform") != "uniform":
        settings["timestep_sampler"] = "loss_second_moment"
    return settings


def _sampling(family: str, flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return how that family's scripts draw samples: every step of DDPM unless flags say less."""
    process, _ = diffusion_from_flags(family, flags)
    respacing = flags.get("timestep_respacing", "").replace(" ", "")
    settings: dict[str, Any] = {
        "sampler": "ddim" if flags.get("use_ddim", False) else "ddpm",
        "spacing": respacing or "even",
        "steps": len(process.schedule),
        "clip": flags.get("clip_denoised", True),
    }
    if respacing:
        counts = respacing.removeprefix("ddim").split(",")
        if not all(count.isdecimal() for count in counts):
            raise ValueError(
                f"timestep_respacing={respacing[:100]!r} is unknown: use counts such as 250 or "
                "10,15,20, or ddim50"
            )
        settings["steps"] = sum(map(int, counts))
    if "batch_size" in flags and SAMPLING.keys() & flags.keys():
        settings["batch_size"] = flags["batch_size"]
    return settings
