"""What every section of the settings shares."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """Frozen, validated settings; unknown keys are refused.

    Numbers may be written as text (YAML reads ``1e-4`` as text), hence the lax mode.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
