"""Settings of one condition other than the class."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from iddpm.config.section import Finite, Section


class ConditionConfig(Section):
    """One condition, such as an age; None is replaced by a value from the data and recorded."""

    kind: Literal["number", "class"] | None = None
    """By default ``number`` if all known values are numbers."""
    range: tuple[Finite, Finite] | None = None
    """For a number: the lowest and highest value of the training items, which the network sees as
    -1 and 1."""
    period: Annotated[float, Field(gt=0, le=1e30)] | None = None
    """For a periodic number: its period, such as 360 for degrees."""
    names: tuple[str, ...] | None = None
    """For a class: the names, in the order of their numbers."""

    @field_validator("names", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        """Take numbers for names, as YAML reads them."""
        return [str(v) for v in value] if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.kind == "class" and not (self.range is None and self.period is None):
            raise ValueError("range and period need kind=number, and kind=class is set")
        if self.kind != "class" and self.names is not None:
            raise ValueError("names need kind=class")
        if self.range is not None and self.period is not None:
            raise ValueError("a periodic number has a period and no range")
        if self.range is not None and self.range[0] >= self.range[1]:
            raise ValueError(f"range={list(self.range)} is empty: give the lowest number first")
        return self

    @property
    def resolved(self) -> bool:
        """Whether nothing is left to be found in the data."""
        known = self.names if self.kind == "class" else self.range or self.period
        return self.kind is not None and known is not None
