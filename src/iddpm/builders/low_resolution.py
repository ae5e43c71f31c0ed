"""Super-resolution: from its settings to the low-resolution input of the network."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from iddpm.config import ResolvedConfig
from iddpm.data.degrade import Degradation, add_noise, noise_of
from iddpm.data.resample import enlarge_bicubic
from iddpm.networks.trunk import check_circular
from iddpm.runtime.seeds import stream


def scale_of(config: ResolvedConfig) -> tuple[int, ...]:
    """Return the upscaling factor of each axis.

    Raises:
        ValueError: a scale for another number of axes, or one that leaves everything as it is.
    """
    size, scale = config.model.size, config.scale
    if scale is None:
        raise ValueError("these settings have no scale: they are not for super-resolution")
    axes = (scale,) * len(size) if isinstance(scale, int) else scale
    if len(axes) != len(size):
        raise ValueError(
            f"scale={list(axes)} must have a factor for each of the {len(size)} axes, or one for "
            "all"
        )
    if set(axes) == {1}:
        raise ValueError(f"scale={scale} increases no resolution: use 2 or more along some axis")
    return axes


def low_res_size(config: ResolvedConfig) -> tuple[int, ...]:
    """Return the spatial size of the low-resolution input.

    Raises:
        ValueError: the scale does not divide the size of the data.
    """
    size, scale = config.model.size, scale_of(config)
    if any(n % factor for n, factor in zip(size, scale, strict=True)):
        nearest = " x ".join(str(max(n // f, 1) * f) for n, f in zip(size, scale, strict=True))
        raise ValueError(
            f"the data is {' x '.join(map(str, size))}, which scale={config.scale} does not "
            f"divide: use data of {nearest}, or another scale"
        )
    return tuple(n // factor for n, factor in zip(size, scale, strict=True))


def input_of(config: ResolvedConfig) -> str:
    """Describe the low-resolution input of a model in words."""
    if config.scale is None:
        return "no low-resolution input"
    size = " x ".join(map(str, low_res_size(config)))
    return f"a low-resolution input of {size}" + (
        " and its noise" if config.degradation.augment else ""
    )


def build_degradation(config: ResolvedConfig) -> Degradation:
    """Return how resolved settings make low resolutions."""
    scale, degradation = scale_of(config), config.degradation
    return Degradation(
        scale,
        degradation.kind,
        degradation.sigma,
        degradation.noise,
        config.bits,
        check_circular(config.model.circular, len(scale)),
    )


def check_low_res_noise(config: ResolvedConfig, level: float) -> None:
    """Raise ValueError unless the model was, or will be, trained with so noisy low resolutions."""
    most = config.degradation.augment
    if level > most:
        raise ValueError(
            f"low_res_noise={level:g} needs a super-resolution model trained with "
            f"degradation.augment={level:g} or more, and this one has {most:g}"
        )


def check_low_res(
    config: ResolvedConfig, where: Path, low_res: Tensor | None, shape: Sequence[int]
) -> None:
    """Raise ValueError unless low resolutions [N, C, *spatial] are those of data of a shape."""
    factors = zip(shape[1:], scale_of(config), strict=True)
    wanted = (shape[0], *(n // factor for n, factor in factors))
    if low_res is None:
        raise ValueError(
            f"{where} is a super-resolution model: give low_res, tensors of shape {wanted} in "
            "[-1, 1]"
        )
    if tuple(low_res.shape[1:]) != wanted:
        raise ValueError(
            f"low_res holds items of shape {tuple(low_res.shape[1:])}, and {where} needs items "
            f"of shape {wanted}"
        )


def interpolate(config: ResolvedConfig, low_res: Tensor, size: Sequence[int]) -> Tensor:
    """Return low-resolution data [N, C, *spatial] interpolated to ``size``, the base of a residual.

    Bicubic, neither rounded nor clamped, of the network's low-resolution input.
    """
    return enlarge_bicubic(low_res, size, check_circular(config.model.circular, len(size)))


def training_low_res(
    config: ResolvedConfig, x: Tensor, items: Sequence[int], step: int
) -> dict[str, Tensor]:
    """Return the low-resolution input in training, with fresh noise at every step.

    Args:
        config: resolved settings.
        x: data in [-1, 1], [N, C, *spatial].
        items: the number of each item in its source.
        step: of the training.
    """
    seed, most = config.training.seed, config.degradation.augment
    low_res = build_degradation(config)(x, items, seed, "degradation", step)
    if not most:
        return {"low_res": low_res}
    drawn = [stream(seed, "low-res level", step=step, index=item).random() for item in items]
    levels = torch.tensor(drawn, dtype=torch.float32, device=x.device) * most
    noise = noise_of(low_res, items, seed, "low-res noise", step)
    return {"low_res": add_noise(low_res, levels, noise), "low_res_noise": levels}


def held_out_low_res(config: ResolvedConfig, x: Tensor, items: Sequence[int]) -> Tensor:
    """Return the low-resolution input of data, always the same for an item."""
    return build_degradation(config)(x, items, 0, "held-out degradation")


def add_low_res(
    config: ResolvedConfig, low_res: Tensor, level: float, numbers: Sequence[int], seed: int = 0
) -> dict[str, Tensor]:
    """Return the low-resolution input for a caller's low resolutions.

    Args:
        config: resolved settings.
        low_res: [N, C, *spatial], about [-1, 1].
        level: standard deviation of the noise to add; for networks that are conditioned on it.
        numbers: of the samples or items, which determine the noise together with the seed.
        seed: of the noise.
    """
    if not config.degradation.augment:
        return {"low_res": low_res}
    levels = torch.full((len(low_res),), level, device=low_res.device)
    if level:
        noise = noise_of(low_res, numbers, seed, "low-res noise")
        low_res = add_noise(low_res, levels, noise)
    return {"low_res": low_res, "low_res_noise": levels}
