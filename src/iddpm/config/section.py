"""What every section of the settings shares."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Frozen, validated settings; unknown keys are refused.

    Numbers may be written as text (YAML reads ``1e-4`` as text), hence the lax mode.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)
