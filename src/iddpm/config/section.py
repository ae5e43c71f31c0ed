"""What every section of the settings shares."""

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _whole_number(value: Any) -> Any:
    """Take 1e4, which YAML reads as text, for 10000."""
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]+(\.[0-9]*)?[eE]\+?[0-9]{1,2}\s*", value):
        number = float(value)
        return int(number) if number.is_integer() else number
    return value


Whole = Annotated[int, BeforeValidator(_whole_number)]
"""An integer; its bounds stand beside it."""
Positive = Annotated[Whole, Field(gt=0, le=10**12)]
"""A number of steps or items, or an interval between steps."""
Length = Annotated[Whole, Field(gt=0, le=10**6)]
"""Positions along an axis: pixels, samples, voxels, frames."""
Few = Annotated[Whole, Field(gt=0, le=1024)]
"""Threads, processes, blocks, heads: each costs memory or time of its own."""
Finite = Annotated[float, Field(allow_inf_nan=False, ge=-1e30, le=1e30)]


class Section(BaseModel):
    """Frozen, validated settings; unknown keys are refused, and so is nan or infinity.

    Numbers may be written as text (YAML reads ``1e-4`` as text), hence the lax mode.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
