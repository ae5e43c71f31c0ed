"""The names of improved-diffusion, guided-diffusion and Recode-IDM, translated into ours.

Parameter names need hardly any translation: ours are those of the first two. Constructor arguments
and command-line flags do. Facts about the families: github.com/openai/improved-diffusion,
openai/guided-diffusion and AOSAI/Recode-IDM.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iddpm.diffusion import Denoiser, GaussianDiffusion, cosine, linear
from iddpm.diffusion.prediction import VarianceKind
from iddpm.interop.published_flags import Family, family_of, read_flags, split_flags
from iddpm.interop.published_weights import UNSTATED, Facts, check_fit, facts_of, read_published
from iddpm.networks import EncoderUNet, SuperResUNet, UNet

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
_RECODE_CHANNEL_MULT: dict[int, tuple[float, ...]] = {**_CHANNEL_MULT, 32: (1, 2, 2)}
_PREFIXES = {"improved-diffusion": "id", "guided-diffusion": "gd", "recode-idm": "rc"}


def translate_arguments(source: str, kwargs: Mapping[str, Any]) -> tuple[Network, dict[str, Any]]:
    """Translate a published constructor call into a class of ours and its arguments.

    Args:
        source: ``"id."``, ``"gd."`` or ``"rc."`` (improved-diffusion, guided-diffusion, Recode-IDM)
            and the published class name, such as ``"id.UNetModel"``.
        kwargs: that constructor's arguments; what is left out takes the published default.

    Returns:
        The class and the keyword arguments to call it with.

    Raises:
        ValueError: an unknown class or argument.
    """
    family, _, name = source.partition(".")
    if family not in _PREFIXES.values() or name not in _CLASSES:
        known = ", ".join(f"id.{n}, gd.{n}, rc.{n}" for n in _CLASSES)
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
    if family == "rc":
        ours["upsample"] = "transpose"
    if "attention_downsampling" in ours:  # a factor that no level has is passed over there
        present = {2**level for level in range(len(ours["channel_mult"]))}
        kept = tuple(n for n in ours["attention_downsampling"] if n in present)
        ours["attention_downsampling"] = kept
    if network is EncoderUNet:  # it has no upward path
        ours.pop("upsample")
        ours.pop("num_heads_upsample", None)
    return network, ours


def build_published(source: str, kwargs: Mapping[str, Any]) -> UNet | EncoderUNet:
    """Build our network for a published constructor call; see :func:`translate_arguments`."""
    network, ours = translate_arguments(source, kwargs)
    return network(**ours)


def constructor_from_flags(
    family: str, flags: Mapping[str, Any], facts: Facts = UNSTATED
) -> tuple[str, dict[str, Any]]:
    """Turn the published command-line flags into the constructor call that they lead to.

    Args:
        family: whose flags: ``improved-diffusion``, ``guided-diffusion`` or ``recode-idm``.
        flags: names and values as in that family's README, the rest at its defaults.
        facts: what they do not say. A model of no stated kind with ``large_size`` or without
            ``image_size`` is that family's upsampler.

    Returns:
        The class name and arguments that :func:`translate_arguments` takes.

    Raises:
        ValueError: an image size for which the family has no channel multipliers; a flag that the
            published scripts do not have, or a value that is none of its type.
    """
    family = family_of(family)
    flags = read_flags(flags)  # also those of the other families, which shared them later
    if facts.kind == "classifier":
        return _classifier_from_flags(family, flags, facts)
    upsampler = facts.kind == "upsampler"
    if facts.kind is None:
        upsampler = "large_size" in flags or "image_size" not in flags
    size = flags.get("large_size", 256) if upsampler else flags.get("image_size", 64)
    kwargs: dict[str, Any] = {
        "in_channels": facts.channels,
        "model_channels": flags.get("num_channels", 128),
        "out_channels": facts.channels * (2 if flags.get("learn_sigma", False) else 1),
        "num_res_blocks": flags.get("num_res_blocks", 2),
        "attention_resolutions": _factors(size, flags.get("attention_resolutions", (16, 8))),
        "dropout": flags.get("dropout", 0.0),
        "channel_mult": flags.get("channel_mult") or _multipliers(family, size, upsampler),
        "num_classes": facts.classes if flags.get("class_cond", False) else None,
        "num_heads": flags.get("num_heads", 4),
        "num_heads_upsample": flags.get("num_heads_upsample", -1),
        "use_scale_shift_norm": flags.get("use_scale_shift_norm", True),
    }
    if flags.get("use_checkpoint", False):
        kwargs["use_checkpoint"] = True
    if family == "guided-diffusion":
        kwargs["image_size"] = size
        for key, default in (
            ("num_head_channels", -1),
            ("resblock_updown", False),
            ("use_new_attention_order", False),
        ):
            kwargs[key] = flags.get(key, default)
    return f"{_PREFIXES[family]}.{'SuperResModel' if upsampler else 'UNetModel'}", kwargs


def _classifier_from_flags(
    family: Family, flags: Mapping[str, Any], facts: Facts
) -> tuple[str, dict[str, Any]]:
    if family != "guided-diffusion":
        raise ValueError(f"{family} has no classifiers: those are of guided-diffusion")
    size = flags.get("image_size", 64)
    pixels = flags.get("classifier_attention_resolutions", (32, 16, 8))
    return "gd.EncoderUNetModel", {
        "image_size": size,
        "in_channels": facts.channels,
        "model_channels": flags.get("classifier_width", 128),
        "out_channels": facts.classes,
        "num_res_blocks": flags.get("classifier_depth", 2),
        "attention_resolutions": _factors(size, pixels),
        "channel_mult": _multipliers(family, size, False),
        "num_head_channels": 64,
        "use_scale_shift_norm": flags.get("classifier_use_scale_shift_norm", True),
        "resblock_updown": flags.get("classifier_resblock_updown", True),
        "pool": flags.get("classifier_pool", "attention"),
    }


def _factors(size: int, pixels: tuple[float, ...]) -> tuple[int, ...]:
    """Return the downsampling factors of the sizes with attention that flags name."""
    return tuple(size // int(p) for p in pixels)


def _multipliers(family: Family, size: int, upsampler: bool) -> tuple[float, ...]:
    published = _UPSAMPLER_CHANNEL_MULT if upsampler else _CHANNEL_MULT
    if family == "recode-idm":
        published = _RECODE_CHANNEL_MULT
    if size not in published:
        raise ValueError(
            f"{family} has no channel multipliers for image size {size}: known are "
            f"{', '.join(map(str, published))}, or give channel_mult"
        )
    return published[size]


def diffusion_from_flags(family: str, flags: Mapping[str, Any]) -> tuple[GaussianDiffusion, str]:
    """Return the process that flags describe, and what the network predicts: ``eps`` or ``x0``."""
    flags = read_flags(flags, family)
    make: Any = {"linear": linear, "cosine": cosine}[flags.get("noise_schedule", "linear")]
    steps = flags.get("diffusion_steps", flags.get("steps", 1000))
    rescale = flags.get("rescale_timesteps", family_of(family) == "improved-diffusion")
    variance: VarianceKind = "fixed_small" if flags.get("sigma_small", False) else "fixed_large"
    if flags.get("learn_sigma", False):
        variance = "learned_range"
    predicts = "x0" if flags.get("predict_xstart", False) else "eps"
    return GaussianDiffusion(make(steps, rescale_timesteps=rescale), variance), predicts


def load_published(path: Path | str, family: str, flags: str | Mapping[str, Any]) -> Denoiser:
    """Open a network of improved-diffusion, guided-diffusion or Recode-IDM, ready to be sampled.

    ``iddpm import`` makes a run of such a file, classifiers included.

    Args:
        path: the ``.pt`` file of the weights (``model*.pt`` or ``ema*.pt``).
        family: whose it is.
        flags: the model and diffusion flags that its README gives, as on the command line or as
            names and values; the rest at their defaults.

    Returns:
        The model in evaluation mode on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is not a plain dictionary of weights, or another model's. Nothing in
            it is executed.
    """
    weights = read_published(path)
    flags = read_flags(split_flags(flags, family) if isinstance(flags, str) else flags, family)
    facts = facts_of(weights, flags)
    if facts.kind == "classifier":
        raise ValueError(f"{path} holds a classifier, not a generative model: use iddpm import")
    network = build_published(*constructor_from_flags(family, flags, facts))
    check_fit(path, weights, network.state_dict(), flags)
    network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    diffusion, predicts = diffusion_from_flags(family, flags)
    return Denoiser(network, diffusion, predicts)
