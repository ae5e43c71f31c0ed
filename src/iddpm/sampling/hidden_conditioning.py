"""Conditioning hidden from a network, for guidance."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from iddpm.diffusion import Denoise, Level, Prediction

NO_CLASS = -1
"""The label of no class; the networks give it a zero embedding."""
NULL: dict[str, float] = {"y": NO_CLASS, "conditions": math.nan}
"""The value of a hidden conditioning, by keyword."""
KEPT = ("low_res", "low_res_noise", "interpolated", "given", "estimate")
"""What guidance never hides."""


def hidden_conditioning(
    conditioning: Mapping[str, Any], null: Mapping[str, Any], scale: float | None, count: int
) -> dict[str, Any]:
    """Return the conditioning of ``count`` items with all that guidance may hide hidden."""
    for name in null:
        if name not in conditioning:
            known = ", ".join(conditioning) or "nothing"
            raise ValueError(f"null names {name}, and the model is called with {known}")
    hidden = {}
    for name, value in conditioning.items():
        if value is not None and (
            not isinstance(value, Tensor) or value.dim() == 0 or len(value) != count
        ):
            raise ValueError(
                f"guidance cannot hide {name}: it is {_described(value)}, and must be a tensor "
                f"with a row for each of the {count} items"
            )
        if name not in null and name not in NULL and name not in KEPT:
            raise ValueError(
                f"guidance does not know the value for no {name}: set null={{{name!r}: "
                f"VALUE}}, or null={{{name!r}: None}} to leave it unchanged"
            )
        wanted = null.get(name, NULL.get(name))
        hidden[name] = value if value is None or wanted is None else _null(name, wanted, value)
    if all(hidden[name] is value for name, value in conditioning.items()):
        names = ", ".join(conditioning) or "no conditioning"
        of_scale = "" if scale is None else f" of scale {scale:g}"
        raise ValueError(
            f"guidance{of_scale} has no conditioning to hide: the model is called with {names}"
        )
    return hidden


def _null(name: str, wanted: Any, value: Tensor) -> Tensor:
    """Return rows shaped like ``value`` that all hold the value for hidden."""
    row = torch.as_tensor(wanted, device=value.device)
    if row.is_floating_point() and not value.is_floating_point():
        raise ValueError(f"null[{name!r}] is {wanted}, and {name} holds {value.dtype}")
    try:
        return row.to(value.dtype).expand_as(value)
    except RuntimeError:
        raise ValueError(
            f"null[{name!r}] has shape {tuple(row.shape)}, and a row of {name} has "
            f"{tuple(value.shape[1:])}: give one row, or a number"
        ) from None


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def without_index_errors(
    denoise: Denoise,
    x_t: Tensor,
    level: Level,
    hidden: Mapping[str, Any],
    conditioning: Mapping[str, Any],
) -> Prediction:
    """Call a model; name the conditioning if its embedding has no row for hidden."""
    try:
        return denoise(x_t, level, **hidden)
    except IndexError as error:
        count = len(next(value for value in conditioning.values() if value is not None))
        denoise(x_t[:count], Level(*(values[:count] for values in level)), **conditioning)
        names = [name for name in conditioning if name not in KEPT and hidden[name] is not None]
        shown = ", ".join(f"{name}={hidden[name][-1].flatten()[:3].tolist()}" for name in names)
        raise ValueError(
            f"the network has no embedding for no conditioning, {shown} ({error}): name the "
            f"row that was trained for it, null={{{names[0]!r}: ROW}}, or add one to the "
            "network"
        ) from error
