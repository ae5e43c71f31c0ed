"""Requested conditions of samples."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from iddpm.data.conditioning.conditions import Condition, as_number, is_unknown

Value = float | str | None
RequestedConditions = Mapping[str, Value | Sequence[Value]]
"""By the name of a condition one value for all samples, one for each, or text: ``20..80`` spreads
them evenly and ``20,40`` alternates. None and empty text mean unknown."""

FAR = 1.1
"""Beyond this a number gives a warning; the training items have -1 to 1."""


def ask(
    conditions: Sequence[Condition], requested: RequestedConditions, n: int, where: object
) -> NDArray[np.float64]:
    """Return the requested conditions of ``n`` samples, [n, K]; NaN where none was requested.

    Args:
        conditions: those of the model.
        requested: the values of the samples.
        n: number of samples.
        where: the model, for messages.

    Raises:
        ValueError: a condition or a class that the model does not know, text where a number
            belongs, or another number of values than samples.
    """
    known = ", ".join(condition.name for condition in conditions)
    for name in requested:
        if name not in [condition.name for condition in conditions]:
            raise ValueError(
                f"{name} is not a condition of {where}"
                + (f": it has {known}" if known else ", which was trained without any")
            )
    encoded = np.full((n, len(conditions)), math.nan)
    for k, condition in enumerate(conditions):
        cells = _cells(condition, requested.get(condition.name), n)
        encoded[:, k] = [condition.encode(cell) for cell in cells]
        if condition.names is None and condition.period is None:
            far = np.abs(encoded[:, k]) > FAR
            if far.any():
                warnings.warn(
                    f"{condition.name}={cells[int(np.argmax(far))]} is outside the range "
                    f"{condition.low:.6g} to {condition.high:.6g} that {where} was trained on",
                    stacklevel=3,
                )
    return encoded


def read_requested(texts: Sequence[str]) -> dict[str, str]:
    """Read conditions from the command line, such as ``age=63``.

    Raises:
        ValueError: text of another form, or a condition that is set twice.
    """
    requested: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise ValueError(f"{text!r} is not a condition: write it as --condition age=63")
        if name in requested:
            raise ValueError(
                f"{name} was set twice; write several values as "
                f"{name}={requested[name]},{value.strip()}"
            )
        requested[name] = value.strip()
    return requested


def describe(conditions: Sequence[Condition], encoded: NDArray[np.float64]) -> str:
    """Describe the requested conditions of samples [n, K]."""
    parts = []
    for k, condition in enumerate(conditions):
        cells = list(dict.fromkeys(condition.decode(value) for value in encoded[:, k]))
        shown = ", ".join(cell or "not set" for cell in cells[:4])
        parts.append(f"{condition.name} {shown}{', ...' if len(cells) > 4 else ''}")
    return "; ".join(parts)


def _cells(condition: Condition, value: Value | Sequence[Value], n: int) -> list[str]:
    """Return a cell for each sample."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        if len(value) != n:
            raise ValueError(
                f"{condition.name} has {len(value)} values for {n} samples: give one for "
                "each, or one for all"
            )
        return [_cell(one) for one in value]
    text = _cell(value)
    if condition.names is not None and text in condition.names:  # also with commas or dots
        return [text] * n
    if condition.names is None and (match := re.fullmatch(r"(.+?)\.\.(.+)", text)):
        low, high = map(_number, match.groups(), [condition.name] * 2)
        return [f"{value!r}" for value in np.linspace(low, high, n).tolist()]
    parts = [part.strip() for part in text.split(",")]
    return [parts[k % len(parts)] for k in range(n)]


def _number(text: str, name: str) -> float:
    number = as_number(text)
    if number is None:
        raise ValueError(f"{name}={text} is not a number: a range is written as {name}=20..80")
    return number


def _cell(value: Value) -> str:
    text = "" if value is None else str(value).strip()
    return "" if is_unknown(text) else text
