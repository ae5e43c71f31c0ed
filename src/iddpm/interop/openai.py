"""The names of improved-diffusion and guided-diffusion, translated into ours.

Parameter names need no translation: ours are theirs. Constructor arguments and command-line flags
do. Facts about both families: github.com/openai/improved-diffusion and openai/guided-diffusion.
"""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, linear
from iddpm.diffusion.prediction import VarianceKind
from iddpm.interop.published_flags import read_flags
from iddpm.networks import EncoderUNet, SuperResUNet, UNet

Family = Literal["improved-diffusion", "guided-diffusion"]
Network = type[UNet] | type[EncoderUNet]

_CLASSES: dict[str, Network] = {
    "UNetModel": UNet,
    "SuperResModel": SuperResUNet,
    "EncoderUNetModel": EncoderUNet,
}
_KEPT = {
    "in_channels",
    "out_channels",
    "model_channels",
    "num_res_blocks",
    "channel_mult",
    "dropout",
    "dims",
    "num_classes",
    "num_heads",
    "resblock_updown",
    "use_checkpoint",
    "pool",
}
_WITHOUT_EFFECT = {"use_fp16", "image_size"}
"""Half precision is a matter of the training step; ``image_size`` only matters to an encoder."""

_CHANNEL_MULT: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
    32: (1, 2, 2, 2),
}
_UPSAMPLER_CHANNEL_MULT: dict[int, tuple[float, ...]] = {
    512: (1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    64: (1, 2, 3, 4),
}


def translate_arguments(source: str, kwargs: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Translate a published constructor call into a class of ours and its arguments.

    Args:
        source: ``"id."`` or ``"gd."`` and the published class name, such as ``"id.UNetModel"``.
        kwargs: that constructor's arguments; what is left out takes the published default.

    Returns:
        The class and the keyword arguments to call it with.

    Raises:
        ValueError: an unknown class or argument.
    """
    family, _, name = source.partition(".")
    if family not in ("id", "gd") or name not in _CLASSES:
        known = ", ".join(f"id.{n}, gd.{n}" for n in _CLASSES)
        raise ValueError(f"{source!r} is not a published network; known are {known}")
    network = _CLASSES[name]
    ours: dict[str, Any] = {
        "use_scale_shift_norm": False,
        "channel_mult": (1, 2, 4, 8),
        "upsample": "nearest_conv",
        "downsample": "conv",
    }
    for key, value in kwargs.items():
        if key == "attention_resolutions":  # factors, despite the name
            ours["attention_downsampling"] = tuple(value)
        elif key == "conv_resample":
            ours["upsample"] = "nearest_conv" if value else "nearest"
            ours["downsample"] = "conv" if value else "avg_pool"
        elif key == "num_heads_upsample":
            ours["num_heads_upsample"] = None if value == -1 else value
        elif key == "num_head_channels":
            ours["num_head_channels"] = None if value == -1 else value
        elif key == "use_new_attention_order":
            ours["qkv_order"] = "qkv_first" if value else "heads_first"
        elif key == "image_size" and network is EncoderUNet:
            ours["image_size"] = value
        elif key in _KEPT or key == "use_scale_shift_norm":
            ours[key] = value
        elif key not in _WITHOUT_EFFECT:
            raise ValueError(f"{source} has no argument {key!r}")
    if network is EncoderUNet:  # it has no upward path
        ours.pop("upsample")
        ours.pop("num_heads_upsample", None)
    return network, ours


def build_published(source: str, kwargs: Mapping[str, Any]) -> UNet | EncoderUNet:
    """Build our network for a published constructor call; see :func:`translate_arguments`."""
    network, ours = translate_arguments(source, kwargs)
    return network(**ours)


def constructor_from_flags(family: Family, flags: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Turn the published command-line flags into the constructor call that they lead to.

    Args:
        family: whose flags.
        flags: names and values as in that family's README, the rest at its defaults. A model with
            ``large_size`` or without ``image_size`` is that family's upsampler.

    Returns:
        The class name and arguments that :func:`translate_arguments` takes.

    Raises:
        ValueError: an image size for which the family has no channel multipliers; a flag that the
            published scripts do not have, or a value that is none of its type.
    """
    flags = read_flags(flags)
    prefix = {"improved-diffusion": "id", "guided-diffusion": "gd"}[family]
    upsampler = "large_size" in flags or "image_size" not in flags
    size = int(flags.get("large_size", 256)) if upsampler else int(flags["image_size"])
    published = _UPSAMPLER_CHANNEL_MULT if upsampler else _CHANNEL_MULT
    channel_mult = flags.get("channel_mult") or published.get(size)
    if channel_mult is None:
        raise ValueError(
            f"{family} has no channel multipliers for image size {size}: known are "
            f"{', '.join(map(str, published))}, or give channel_mult"
        )
    pixels = flags.get("attention_resolutions", (16, 8))
    kwargs: dict[str, Any] = {
        "in_channels": 3,
        "model_channels": flags.get("num_channels", 128),
        "out_channels": 6 if flags.get("learn_sigma", False) else 3,
        "num_res_blocks": flags.get("num_res_blocks", 2),
        "attention_resolutions": tuple(size // int(p) for p in pixels),
        "dropout": flags.get("dropout", 0.0),
        "channel_mult": tuple(channel_mult),
        "num_classes": 1000 if flags.get("class_cond", False) else None,
        "num_heads": flags.get("num_heads", 4),
        "num_heads_upsample": flags.get("num_heads_upsample", -1),
        "use_scale_shift_norm": flags.get("use_scale_shift_norm", True),
    }
    if prefix == "gd":
        kwargs["image_size"] = size
        for key, default in (
            ("num_head_channels", -1),
            ("resblock_updown", False),
            ("use_new_attention_order", False),
        ):
            kwargs[key] = flags.get(key, default)
    return f"{prefix}.{'SuperResModel' if upsampler else 'UNetModel'}", kwargs


def load_published(path: Path | str, family: Family, flags: Mapping[str, Any]) -> Denoiser:
    """Open a checkpoint of improved-diffusion or guided-diffusion, ready to be sampled.

    Args:
        path: the ``.pt`` file of the weights (``model*.pt`` or ``ema*.pt``).
        family: whose it is.
        flags: the model and diffusion flags that its README gives, the rest at their defaults.

    Returns:
        The model in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a plain dictionary of weights, or another model's. Nothing in
            it is executed.
    """
    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no checkpoint {file}")
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{file} is not a checkpoint of weights alone: {reason}") from None
    flags = read_flags(flags)
    network = build_published(*constructor_from_flags(family, flags))
    names = network.state_dict()
    if not isinstance(weights, dict) or weights.keys() != names.keys():
        found = len(weights) if isinstance(weights, dict) else 0
        raise ValueError(
            f"{file} does not hold the weights of this model ({found} names there, {len(names)} "
            "wanted): an optimizer's file (opt*.pt), or other flags"
        )
    for name, value in names.items():
        if value.shape != weights[name].shape:
            raise ValueError(
                f"{file} belongs to other flags: {name} has shape {list(weights[name].shape)} "
                f"there and {list(value.shape)} here"
            )
    network.load_state_dict(weights)
    make: Any = {"linear": linear, "cosine": cosine}[flags.get("noise_schedule", "linear")]
    rescale = flags.get("rescale_timesteps", family == "improved-diffusion")
    schedule = make(int(flags.get("diffusion_steps", 1000)), rescale_timesteps=bool(rescale))
    variance: VarianceKind = "fixed_small" if flags.get("sigma_small", False) else "fixed_large"
    if flags.get("learn_sigma", False):
        variance = "learned_range"
    predicts = "x0" if flags.get("predict_xstart", False) else "eps"
    network.eval().requires_grad_(False)
    return Denoiser(network, GaussianDiffusion(schedule, variance), predicts)
