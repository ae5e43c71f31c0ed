"""Settings of sampling, for previews and as the defaults of ``iddpm sample``."""

from typing import Annotated, Literal

from pydantic import Field

from iddpm.config.section import Section

SamplerName = Literal[
    "ddpm",
    "ddim",
    "heun",
    "ipndm",
    "dpmpp_2m",
    "dpmpp_3m",
    "dpmpp_2m_sde",
    "unipc_2",
    "unipc_3",
]


class SamplingConfig(Section):
    """How samples are drawn."""

    sampler: SamplerName = "ddim"
    spacing: Literal["auto", "even", "log_snr", "karras"] = "auto"
    """Which timesteps are visited: even for ddpm and ddim, log_snr for the others."""
    steps: Annotated[int, Field(gt=0)] = 50
    """Network evaluations per sample."""
    eta: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fresh noise of DDIM: 0 is deterministic."""
    guidance: float = 1.0
    """Scale of classifier-free guidance: 0 ignores the class, 1 is the model as trained."""
    clip: bool = True
    """Keep the estimate of the data within [-1, 1]."""
    batch_size: Annotated[int, Field(gt=0)] = 64
