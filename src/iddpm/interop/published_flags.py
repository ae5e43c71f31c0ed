"""Flags of improved-diffusion and guided-diffusion, read as their scripts read them."""

import difflib
from collections.abc import Mapping
from typing import Any

_YES, _NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
_WHOLE = (
    "image_size",
    "large_size",
    "small_size",
    "num_channels",
    "num_res_blocks",
    "num_heads",
    "num_heads_upsample",
    "num_head_channels",
    "diffusion_steps",
)
_SWITCHES = (
    "class_cond",
    "learn_sigma",
    "predict_xstart",
    "resblock_updown",
    "rescale_learned_sigmas",
    "rescale_timesteps",
    "sigma_small",
    "use_checkpoint",
    "use_fp16",
    "use_kl",
    "use_new_attention_order",
    "use_scale_shift_norm",
)
_OTHERS = ("attention_resolutions", "channel_mult", "dropout", "noise_schedule")
_WITHOUT_EFFECT = (
    "base_samples",
    "batch_size",
    "classifier_attention_resolutions",
    "classifier_depth",
    "classifier_path",
    "classifier_pool",
    "classifier_resblock_updown",
    "classifier_scale",
    "classifier_use_fp16",
    "classifier_use_scale_shift_norm",
    "classifier_width",
    "clip_denoised",
    "data_dir",
    "ema_rate",
    "fp16_scale_growth",
    "log_interval",
    "lr",
    "lr_anneal_steps",
    "microbatch",
    "model_path",
    "num_samples",
    "resume_checkpoint",
    "save_interval",
    "schedule_sampler",
    "timestep_respacing",
    "use_ddim",
    "weight_decay",
)
"""Flags of training and sampling, which say nothing of the weights."""
SCHEDULES = ("linear", "cosine")


def read_flags(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the flags that describe a model, with their types; texts are read as by a shell.

    Raises:
        ValueError: a flag that no published script has, with the nearest, or a value of another
            type.
    """
    known = (*_WHOLE, *_SWITCHES, *_OTHERS)
    read: dict[str, Any] = {}
    for name, value in flags.items():
        if name in _WITHOUT_EFFECT:
            continue
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
            raise ValueError(f"{name} is no published flag: did you mean {nearest[0]}?")
        read[name] = _value(name, value)
    return read


def _value(name: str, value: Any) -> Any:
    text = str(value).strip()
    if name in _SWITCHES:
        if text.lower() in _YES:
            return True
        if text.lower() in _NO:
            return False
        raise ValueError(f"{name}={text[:100]!r} is neither true nor false")
    if name == "noise_schedule":
        if text not in SCHEDULES:
            raise ValueError(f"{name}={text[:100]!r} is unknown: use {' or '.join(SCHEDULES)}")
        return text
    if name in ("attention_resolutions", "channel_mult"):
        return _numbers(name, value)
    try:
        return int(text) if name in _WHOLE else float(text)
    except ValueError:
        kind = "whole number" if name in _WHOLE else "number"
        raise ValueError(f"{name}={text[:100]!r} is no {kind}") from None


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """Read ``1,2,3``, an empty text or a sequence as numbers."""
    parts = value.split(",") if isinstance(value, str) else value
    if parts in (None, [""]):
        return ()
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={str(value)[:100]!r} is no list such as 1,2,3") from None
    if not numbers or not all(0 < number < 1e6 for number in numbers):
        raise ValueError(f"{name}={str(value)[:100]!r} holds a number that is not above 0")
    return tuple(int(n) if n.is_integer() else n for n in numbers)
