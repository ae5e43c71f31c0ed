"""Samplers by name, the steps that they visit, and both joined with a model."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from iddpm.builders.guides import NO_GUIDES, Guides, guide
from iddpm.config import Config, SamplingConfig
from iddpm.data.conditioning.labels import Classes
from iddpm.diffusion import Denoise, Denoiser, NoiseSchedule
from iddpm.diffusion.prediction import VarianceKind
from iddpm.evaluation.step_costs import StepTable
from iddpm.sampling import (
    DDIM,
    DDPM,
    IPNDM,
    RHO,
    SIGMA_MAX,
    DPMSolverPP,
    Heun,
    SampleNoise,
    Sampler,
    State,
    UniPC,
    even_timesteps,
    karras_timesteps,
    log_snr_timesteps,
    space_timesteps,
    trajectory,
)

FEWEST_FOR_SDE = 5
"""Evaluations from which the automatic choice is ``dpmpp_2m_sde``; below it is ``ipndm``."""
SPACING = {"ddpm": "even", "ddim": "even", "ipndm": "karras", "dpmpp_2m_sde": "karras"}
"""The automatic spacing of a sampler; ``log_snr`` for those not named."""
SDE_SIGMA_MAX, SDE_RHO = 30.0, 3.0
"""Where the SDE's steps start and how they crowd; fresh noise asks for shorter steps up there."""


class Method(NamedTuple):
    """A sampler and a spacing by name, neither of them ``auto``."""

    sampler: str
    spacing: str


def choose_method(sampling: SamplingConfig) -> Method:
    """Return the sampler and spacing that settings stand for, ``auto`` resolved.

    The sampler by the number of evaluations, from what we measured (``benchmarks/samplers.md``);
    the spacing by the sampler. ``eta`` and an analytic variance are DDIM's.
    """
    sampler: str = sampling.sampler
    if sampler == "auto":
        sampler = "ipndm" if sampling.steps < FEWEST_FOR_SDE else "dpmpp_2m_sde"
        if sampling.steps == 1 or sampling.eta > 0 or sampling.variance == "analytic":
            sampler = "ddim"
    spacing = sampling.spacing
    return Method(sampler, SPACING.get(sampler, "log_snr") if spacing == "auto" else spacing)


@dataclass(frozen=True, eq=False)
class Walk:
    """All that is needed to go from noise to data.

    Attributes:
        sampling: the settings that it was built from.
        method: the names of the sampler and the spacing in use.
        sampler: takes the steps.
        denoise: the model with guidance and clipping around it.
        schedule: the steps that are visited.
        classes: what the labels ``y`` mean; None where there are none.
        self_condition: whether each step is told the estimate of the one before.
    """

    sampling: SamplingConfig
    method: Method
    sampler: Sampler
    denoise: Denoise
    schedule: NoiseSchedule
    classes: Classes | None = None
    self_condition: bool = False

    def __str__(self) -> str:
        """Say how samples are drawn, in a line."""
        evaluations = self.sampling.steps
        plural = "" if evaluations == 1 else "s"
        variance = ", analytic variance" if self.sampling.variance == "analytic" else ""
        return (
            f"{evaluations} evaluation{plural}: {self.method.sampler}, {self.method.spacing}"
            f"{variance}"
        )

    def states(self, noise: SampleNoise, **conditioning: Any) -> Iterator[State]:
        """Walk from ``noise.initial()`` to data and yield the state after every step."""
        return trajectory(
            self.sampler,
            self.denoise,
            self.schedule,
            noise.initial(),
            noise=noise,
            self_condition=self.self_condition,
            **conditioning,
        )


def build_walk(
    config: Config,
    denoiser: Denoiser,
    sampling: SamplingConfig,
    *,
    guides: Guides = NO_GUIDES,
    classes: Classes | None = None,
    table: StepTable | None = None,
) -> Walk:
    """Return how to draw samples of a model, guided by others or not.

    ``table`` is what the model says at every step; settings that choose by it need it.

    Raises:
        ValueError: settings that do not fit together or do not fit the model.
    """
    method = choose_method(sampling)
    shifts = guides.gradient is not None and guides.classifier_form == "mean"
    if shifts and method.sampler != "ddpm":
        raise ValueError(
            f"classifier_form=mean shifts the mean of ddpm's steps, and the sampler is "
            f"{method.sampler}: use sampler=ddpm, or classifier_form=score"
        )
    denoise = guide(config, denoiser, sampling, guides)
    if sampling.variance == "analytic":
        if method.sampler not in ("ddpm", "ddim"):
            raise ValueError(
                f"variance=analytic is that of steps of ddpm or ddim, and the sampler is "
                f"{method.sampler}"
            )
        assert table is not None
        denoise = table.analytic.around(denoise)
    return Walk(
        sampling,
        method,
        build_sampler(method.sampler, sampling.eta),
        denoise,
        _schedule(denoiser, method, sampling, table),
        classes,
        self_condition=denoiser.self_condition,
    )


def _schedule(
    denoiser: Denoiser, method: Method, sampling: SamplingConfig, table: StepTable | None
) -> NoiseSchedule:
    whole = denoiser.diffusion.schedule
    if method.spacing != "optimal":
        return build_sampling_schedule(
            whole, method, sampling.steps, sigma_max=sampling.sigma_max, rho=sampling.rho
        )
    assert table is not None
    variance: VarianceKind = (
        "analytic" if sampling.variance == "analytic" else denoiser.diffusion.variance
    )
    count = count_steps(method.sampler, sampling.steps)
    return whole.respace(table.optimal(variance, count))


def build_sampler(name: str, eta: float = 0.0) -> Sampler:
    """Return the sampler of that name.

    Raises:
        ValueError: no such sampler, or an ``eta`` for one that has none.
    """
    if eta and name != "ddim":
        raise ValueError(f"eta={eta:g} is an option of sampler ddim, and {name} was asked for")
    samplers: dict[str, Callable[[], Sampler]] = {
        "ddpm": DDPM,
        "ddim": lambda: DDIM(eta),
        "heun": Heun,
        "ipndm": IPNDM,
        "dpmpp_2m": lambda: DPMSolverPP(2),
        "dpmpp_3m": lambda: DPMSolverPP(3),
        "dpmpp_2m_sde": lambda: DPMSolverPP(2, stochastic=True),
        "unipc_2": lambda: UniPC(2),
        "unipc_3": lambda: UniPC(3),
    }
    return samplers[name]()


def count_steps(sampler: str, evaluations: int) -> int:
    """Return how many steps so many evaluations are: Heun's takes two but for the last."""
    return (evaluations + 1) // 2 if sampler == "heun" else evaluations


def build_sampling_schedule(
    whole: NoiseSchedule,
    method: Method,
    evaluations: int,
    *,
    sigma_max: float | None = None,
    rho: float | None = None,
) -> NoiseSchedule:
    """Return the steps that a sampler visits with so many network evaluations.

    Args:
        whole: the process that was trained.
        method: the sampler and ``"even"``, ``"log_snr"``, ``"karras"``, ``"ddim"`` (an integer
            stride from 0) or a published request, see :func:`~iddpm.sampling.space_timesteps`.
        evaluations: network evaluations per sample.
        sigma_max, rho: of ``log_snr`` and ``karras``; by default those of the sampler.

    Raises:
        ValueError: more steps than the process has, or a request for another number of them.
    """
    sampler, spacing = method
    count = count_steps(sampler, evaluations)
    if spacing == "even":
        return whole.respace(even_timesteps(len(whole), count))
    stochastic = sampler == "dpmpp_2m_sde"
    start = sigma_max or (SDE_SIGMA_MAX if stochastic else SIGMA_MAX)
    if spacing == "log_snr":
        return whole.respace(log_snr_timesteps(whole, count, sigma_max=start))
    if spacing == "karras":
        crowd = rho or (SDE_RHO if stochastic else RHO)
        return whole.respace(karras_timesteps(whole, count, crowd, sigma_max=start))
    kept = space_timesteps(len(whole), f"ddim{count}" if spacing == "ddim" else spacing)
    if len(kept) != count:
        needed = 2 * len(kept) - 1 if sampler == "heun" else len(kept)
        raise ValueError(
            f"spacing={spacing} takes {len(kept)} steps and steps={evaluations} evaluations were "
            f"asked for: use steps={needed}"
        )
    return whole.respace(kept)
