"""Flags of improved-diffusion, guided-diffusion and Recode-IDM, read as their scripts read them."""

import difflib
import shlex
from collections.abc import Mapping
from typing import Any, Literal

Family = Literal["improved-diffusion", "guided-diffusion", "recode-idm"]
FAMILIES: dict[str, Family] = {
    "improved": "improved-diffusion",
    "guided": "guided-diffusion",
    "recode": "recode-idm",
    "improved-diffusion": "improved-diffusion",
    "guided-diffusion": "guided-diffusion",
    "recode-idm": "recode-idm",
}
"""The families by the names that a user may give."""
SCHEDULES = ("linear", "cosine")
POOLS = ("adaptive", "attention", "spatial", "spatial_v2")
SAMPLERS = ("uniform", "loss-second-moment")
_YES, _NO = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")
_WHOLE, _SWITCH, _NUMBER, _NUMBERS, _TEXT = "whole number", "switch", "number", "numbers", "text"

_DIFFUSION = {
    "learn_sigma": _SWITCH,
    "diffusion_steps": _WHOLE,
    "noise_schedule": SCHEDULES,
    "timestep_respacing": _TEXT,
    "use_kl": _SWITCH,
    "predict_xstart": _SWITCH,
    "rescale_timesteps": _SWITCH,
    "rescale_learned_sigmas": _SWITCH,
}
_MODEL = {
    "image_size": _WHOLE,
    "large_size": _WHOLE,
    "small_size": _WHOLE,
    "num_channels": _WHOLE,
    "num_res_blocks": _WHOLE,
    "num_heads": _WHOLE,
    "num_heads_upsample": _WHOLE,
    "attention_resolutions": _NUMBERS,
    "dropout": _NUMBER,
    "class_cond": _SWITCH,
    "use_checkpoint": _SWITCH,
    "use_scale_shift_norm": _SWITCH,
}
_TRAINING = {
    "data_dir": _TEXT,
    "schedule_sampler": SAMPLERS,
    "lr": _NUMBER,
    "weight_decay": _NUMBER,
    "lr_anneal_steps": _WHOLE,
    "batch_size": _WHOLE,
    "microbatch": _WHOLE,
    "ema_rate": _NUMBERS,
    "log_interval": _WHOLE,
    "save_interval": _WHOLE,
    "resume_checkpoint": _TEXT,
    "use_fp16": _SWITCH,
    "fp16_scale_growth": _NUMBER,
}
SAMPLING = {
    "clip_denoised": _SWITCH,
    "num_samples": _WHOLE,
    "use_ddim": _SWITCH,
    "model_path": _TEXT,
    "base_samples": _TEXT,
}
_GUIDED = {
    "num_head_channels": _WHOLE,
    "channel_mult": _NUMBERS,
    "resblock_updown": _SWITCH,
    "use_new_attention_order": _SWITCH,
    "classifier_path": _TEXT,
    "classifier_scale": _NUMBER,
    "classifier_use_fp16": _SWITCH,
    "classifier_width": _WHOLE,
    "classifier_depth": _WHOLE,
    "classifier_attention_resolutions": _NUMBERS,
    "classifier_use_scale_shift_norm": _SWITCH,
    "classifier_resblock_updown": _SWITCH,
    "classifier_pool": POOLS,
    "iterations": _WHOLE,
    "anneal_lr": _SWITCH,
    "noised": _SWITCH,
    "val_data_dir": _TEXT,
    "eval_interval": _WHOLE,
}
_SHARED = {**_DIFFUSION, **_MODEL, **_TRAINING, **SAMPLING, "local_rank": _WHOLE}
_KNOWN: dict[Family, dict[str, Any]] = {
    "improved-diffusion": {**_SHARED, "sigma_small": _SWITCH},
    "guided-diffusion": {**_SHARED, **_GUIDED},
    "recode-idm": {**_SHARED, "sigma_small": _SWITCH, "steps": _WHOLE},
}


def family_of(name: str) -> Family:
    """Return the family of that name; ValueError names those there are."""
    if name not in FAMILIES:
        raise ValueError(f"family {name!r} is unknown: use improved, guided or recode")
    return FAMILIES[name]


def split_flags(text: str, family: str) -> dict[str, str]:
    """Return the flags of a command line, such as ``--image_size 64 --learn_sigma True``.

    As published, ``--name=value`` works too, the last of several counts, and a name may be cut
    short where one flag alone starts with it.

    Raises:
        ValueError: text that is no flags, a flag without its value, or an unknown one.
    """
    try:
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError as error:
        raise ValueError(f"the flags cannot be read: {error}") from None
    known = _KNOWN[family_of(family)]
    flags: dict[str, str] = {}
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise ValueError(
                f"{word[:100]!r} is not a flag: write flags as --name value, such as "
                "--image_size 64"
            )
        name, equals, value = word.removeprefix("--").partition("=")
        starting = [flag for flag in known if flag.startswith(name)]
        if name not in known and len(starting) == 1:
            name = starting[0]
        if not equals:
            if not words:
                raise ValueError(f"--{name[:100]} has no value")
            value = words.pop(0)
        flags[name] = value
    return flags


def read_flags(flags: Mapping[str, Any], family: str | None = None) -> dict[str, Any]:
    """Return flags with their types; texts are read as by a shell.

    Args:
        flags: values by name.
        family: whose they are; by default anyone's.

    Raises:
        ValueError: a flag that these scripts do not have, with the nearest, or a value of another
            type.
    """
    tables = [_KNOWN[family_of(family)]] if family is not None else list(_KNOWN.values())
    known = {name: kind for table in tables for name, kind in table.items()}
    read: dict[str, Any] = {}
    for name, value in flags.items():
        if name not in known:
            raise ValueError(_unknown(name, known, family))
        read[name] = _value(name, known[name], value)
    return read


def _unknown(name: str, known: Mapping[str, Any], family: str | None) -> str:
    others = [other for other, table in _KNOWN.items() if name in table]
    if others and family is not None:
        short = others[0].partition("-")[0]
        return (
            f"{name} is a flag of {others[0]} and not of {family_of(family)}: give --family {short}"
        )
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
    shown = name if len(name) <= 100 else f"{name[:100]}..."
    return f"{shown} is not a published flag: did you mean {nearest[0]}?"


def _value(name: str, kind: Any, value: Any) -> Any:
    text = str(value).strip()
    if kind == _TEXT:
        return text
    if kind == _SWITCH:
        if text.lower() in _YES:
            return True
        if text.lower() in _NO:
            return False
        raise ValueError(f"{name}={text[:100]!r} is neither true nor false")
    if isinstance(kind, tuple):
        if text not in kind:
            nearest = difflib.get_close_matches(text, kind, n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else f": use {' or '.join(kind)}"
            raise ValueError(f"{name}={text[:100]!r} is unknown{hint}")
        return text
    if kind == _NUMBERS:
        return _numbers(name, value)
    try:
        return int(text) if kind == _WHOLE else float(text)
    except ValueError:
        raise ValueError(f"{name}={text[:100]!r} is no {kind}") from None


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    """Read ``1,2,3``, an empty text, a number or a sequence as numbers."""
    parts = value.split(",") if isinstance(value, str) else value
    if parts in (None, [""]):
        return ()
    if isinstance(parts, int | float):
        parts = [parts]
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError):
        raise ValueError(f"{name}={str(value)[:100]!r} is no list such as 1,2,3") from None
    if not numbers or not all(0 < number < 1e6 for number in numbers):
        raise ValueError(f"{name}={str(value)[:100]!r} holds a number that is not above 0")
    return tuple(int(n) if n.is_integer() else n for n in numbers)
