"""How low-resolution data comes about, for super-resolution."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from iddpm.config.section import Section

Spread = Annotated[float, Field(ge=0, le=1e6)]


class DegradationConfig(Section):
    """How the low-resolution input is computed from the data; numbers in units of [-1, 1]."""

    kind: Literal["box", "bicubic", "blur"] = "box"
    """The mean of each block, as in the published upsamplers; bicubic with antialiasing; or a
    Gaussian blur."""
    sigma: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Standard deviation of the blur, in positions of the data; by default half the scale."""
    noise: Spread = 0.0
    """Standard deviation of noise in the low-resolution input, such as that of a sensor."""
    augment: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Train on low-resolution inputs with additional noise of any level up to this one, and pass
    the level to the network (Ho et al. 2021); ``sampling.low_res_noise`` sets it when sampling. 0
    has no such input."""

    def __str__(self) -> str:
        """Say it in a few words."""
        text = f"{self.kind} degradation"
        if self.kind == "blur":
            text += f" (sigma {'half the scale' if self.sigma is None else f'{self.sigma:g}'})"
        if self.noise:
            text += f" with noise {self.noise:g}"
        return text + (f" and augmentation up to {self.augment:g}" if self.augment else "")

    @model_validator(mode="after")
    def _sigma_is_of_a_blur(self) -> Self:
        if self.sigma is not None and self.kind != "blur":
            raise ValueError(f"sigma={self.sigma:g} needs kind=blur, and kind={self.kind}")
        return self
