"""Sampling plans: a sampler, its timesteps and a model."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from iddpm.builders.few_steps import (
    check_few_steps,
    few_step_denoise,
    few_step_sampler,
    few_step_schedule,
)
from iddpm.builders.guides import NO_GUIDES, Guides, bounded, guide, guide_alone
from iddpm.builders.load_choice import load
from iddpm.builders.low_resolution import check_low_res_noise
from iddpm.builders.task import task_of
from iddpm.config import ResolvedConfig, SamplingConfig, validate_sampling
from iddpm.config.choices import AUTOMATIC, SAMPLERS, SPACINGS, listed
from iddpm.config.distillation import DistillationConfig
from iddpm.data.conditioning.labels import Classes
from iddpm.diffusion import Denoise, Denoiser, NoiseSchedule
from iddpm.diffusion.level_distribution import LevelChoice
from iddpm.diffusion.prediction import VarianceKind
from iddpm.diffusion.residual import Residual
from iddpm.evaluation.step_costs import StepTable
from iddpm.sampling import SampleNoise, Sampler, State, space_timesteps, trajectory
from iddpm.sampling.fitted_spacing import FittedSteps


class Method(NamedTuple):
    """A sampler and a spacing by name, neither of them ``auto``."""

    sampler: str
    spacing: str


def choose_method(sampling: SamplingConfig, dims: int) -> Method:
    """Return the sampler and spacing of some settings, with ``auto`` resolved.

    The number ``dims`` of axes of the data and the number of evaluations determine the sampler, by
    :data:`~iddpm.config.choices.AUTOMATIC`, and this or the sampler the spacing. ``eta`` and an
    analytic variance select DDIM.
    """
    sampler, spacing = sampling.sampler, sampling.spacing
    if sampler == "auto" and (sampling.eta > 0 or sampling.variance == "analytic"):
        sampler = "ddim"
    elif sampler == "auto":
        row = next(row for row in AUTOMATIC[dims] if sampling.steps <= row.evaluations)
        sampler, spacing = row.sampler, row.spacing if spacing == "auto" else spacing
    return Method(sampler, SAMPLERS[sampler].spacing if spacing == "auto" else spacing)


def requested_sampling(
    defaults: SamplingConfig, num_steps: int, requested: Mapping[str, Any]
) -> SamplingConfig:
    """Return a run's settings of sampling with some changed; None leaves one as it is.

    For another sampler, the run's settings that it does not take are left out. The default number
    of evaluations is at most the number of steps of the process.

    Raises:
        ValueError: an unknown setting, or one that does not work.
    """
    changed = {name: value for name, value in requested.items() if value is not None}
    values = defaults.model_dump()
    if "sampler" in changed:
        taken = SAMPLERS[changed["sampler"]].settings if changed["sampler"] in SAMPLERS else ()
        fresh = SamplingConfig()
        values |= {name: getattr(fresh, name) for name in ("eta", "variance") if name not in taken}
    values["steps"] = min(values["steps"], num_steps)
    return validate_sampling(values | changed)


def settings_for_inpainting(requested: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with defaults for a known part: DDIM with eta 1 at even timesteps."""
    settings = dict(requested)
    if settings.get("sampler") is None:
        settings |= {"sampler": "ddim", "eta": settings.get("eta", 1.0)}
    return settings | {"spacing": settings.get("spacing") or "even"}


def check_part_of_process(spacing: str) -> None:
    """Raise ValueError for a spacing of the whole process if only a part is sampled."""
    if spacing != "auto" and spacing not in SPACINGS:
        raise ValueError(
            f"spacing={spacing} chooses timesteps of the whole process, and an edit uses a "
            f"part of it: use {listed(SPACINGS, 'auto')}"
        )


@dataclass(frozen=True, eq=False)
class SamplingPlan:
    """All that is needed to sample from noise to data.

    Attributes:
        sampling: the settings that it was built from.
        method: the names of the sampler and the spacing in use.
        sampler: the sampler.
        denoise: the model with guidance and clipping.
        schedule: the steps of the sampler.
        classes: the meaning of the labels ``y``; None if there are none.
        self_condition: whether each step receives the estimate of the step before.
        residual: a function of the conditioning and the size that returns the residual; None for
            models of the data itself.
        guided: the model with guidance, before its estimates are clipped.
        tuned: whether ``iddpm tune`` chose the method for this model.
    """

    sampling: SamplingConfig
    method: Method
    sampler: Sampler
    denoise: Denoise
    schedule: NoiseSchedule
    classes: Classes | None = None
    self_condition: bool = False
    residual: Callable[[Mapping[str, Any], Sequence[int]], Residual | None] | None = None
    guided: Denoise | None = None
    tuned: bool = False

    def around(self, wrap: Callable[[Denoise], Denoise]) -> "SamplingPlan":
        """Return the plan with ``wrap`` around the guided model, within clipping.

        Clipping has no gradient to follow.

        Raises:
            ValueError: an analytic variance, which is that of the model as it was.
        """
        if self.sampling.variance == "analytic":
            raise ValueError(
                "variance=analytic is that of samples without a measurement: use variance=trained"
            )
        guided = wrap(self.guided or self.denoise)
        return replace(self, guided=guided, denoise=bounded(guided, self.sampling))

    @property
    def levels(self) -> LevelChoice:
        """The result of the last step for a model with probabilities of levels."""
        return self.sampling.levels or "mode"

    def __str__(self) -> str:
        """Return a line that describes the plan."""
        evaluations = self.sampling.steps
        plural = "" if evaluations == 1 else "s"
        variance = ", analytic variance" if self.sampling.variance == "analytic" else ""
        tuned = ", chosen by iddpm tune" if self.tuned else ""
        return (
            f"{evaluations} evaluation{plural}: {self.method.sampler}, {self.method.spacing}"
            f"{variance}{tuned}"
        )

    def states(self, noise: SampleNoise, **conditioning: Any) -> Iterator[State]:
        """Sample from ``noise.initial()`` to data and yield the state after every step.

        For a model of residuals the states are decoded to data.
        """
        start = noise.initial()
        residual = None if self.residual is None else self.residual(conditioning, start.shape[2:])
        if residual is not None:
            conditioning["interpolated"] = residual.interpolated
        for state in trajectory(
            self.sampler,
            self.denoise,
            self.schedule,
            start,
            noise=noise,
            self_condition=self.self_condition,
            levels=self.levels,
            **conditioning,
        ):
            if residual is None:
                yield state
            else:
                yield replace(state, x=residual.decode(state.x), x0=residual.decode(state.x0))


def build_sampling_plan(
    config: ResolvedConfig,
    denoiser: Denoiser,
    sampling: SamplingConfig,
    *,
    guides: Guides = NO_GUIDES,
    classes: Classes | None = None,
    table: StepTable | None = None,
    fitted: FittedSteps | None = None,
) -> SamplingPlan:
    """Return the plan for a model, guided by others or not.

    ``table`` is the model's table of steps and ``fitted`` the steps fitted to it, for settings that
    need them.

    Raises:
        ValueError: settings that do not fit together or do not fit the model.
    """
    if sampling.levels is not None and not config.diffusion.has_levels:
        raise ValueError(
            f"levels={sampling.levels} needs a model that predicts a probability for each "
            "level (diffusion.predicts=categorical), and this one predicts "
            f"{config.diffusion.predicts}"
        )
    guided = guides.weaker is not None or guides.gradient is not None
    check_few_steps(config, sampling, guided=guided)
    if config.distillation is not None:
        return _few_step_plan(config, config.distillation, denoiser, sampling, classes)
    method = choose_method(sampling, len(config.model.size))
    shifts = guides.gradient is not None and guides.classifier_form == "mean"
    if shifts and method.sampler != "ddpm":
        raise ValueError(
            "classifier_form=mean works with sampler=ddpm, and the sampler is "
            f"{method.sampler}: use sampler=ddpm, or classifier_form=score"
        )
    denoise = guide(config, denoiser, sampling, guides)
    if sampling.variance == "analytic":
        takers = {name: row for name, row in SAMPLERS.items() if "variance" in row.settings}
        if method.sampler not in takers:
            raise ValueError(
                f"variance=analytic works with {listed(takers)}, and the sampler is "
                f"{method.sampler}"
            )
        assert table is not None
        denoise = table.analytic.around(denoise)
    return SamplingPlan(
        sampling,
        method,
        build_sampler(method.sampler, sampling.eta),
        denoise,
        _schedule(denoiser, method, sampling, fitted or table),
        classes,
        guided=guide_alone(config, denoiser, sampling, guides),
        self_condition=denoiser.self_condition,
        residual=task_of(config).residual,
    )


def _few_step_plan(
    config: ResolvedConfig,
    made: DistillationConfig,
    denoiser: Denoiser,
    sampling: SamplingConfig,
    classes: Classes | None,
) -> SamplingPlan:
    """Return the plan of a distilled model, which has one sampler and its own noise levels."""
    sigmas = ", ".join(f"{sigma:g}" for sigma in made.sigmas(sampling.steps))
    check_low_res_noise(config, sampling.low_res_noise)
    sampler = few_step_sampler(made)
    return SamplingPlan(
        sampling,
        Method(type(sampler).__name__.lower(), f"sigma {sigmas}"),
        sampler,
        few_step_denoise(made, denoiser, sampling),
        few_step_schedule(denoiser.diffusion.schedule, made, sampling.steps),
        classes,
        residual=task_of(config).residual,
    )


def _schedule(
    denoiser: Denoiser,
    method: Method,
    sampling: SamplingConfig,
    measured: StepTable | FittedSteps | None,
) -> NoiseSchedule:
    whole = denoiser.diffusion.schedule
    count = count_steps(method.sampler, sampling.steps)
    if method.spacing == "fitted":
        assert isinstance(measured, FittedSteps)
        sigma_max = sampling.sigma_max or SAMPLERS[method.sampler].sigma_max
        return whole.respace(measured.timesteps(whole, count, sigma_max=sigma_max))
    if method.spacing != "optimal":
        return build_sampling_schedule(
            whole, method, sampling.steps, sigma_max=sampling.sigma_max, rho=sampling.rho
        )
    assert measured is not None
    assert not isinstance(measured, FittedSteps)
    variance: VarianceKind = (
        "analytic" if sampling.variance == "analytic" else denoiser.diffusion.variance
    )
    return whole.respace(measured.optimal(variance, count))


def build_sampler(name: str, eta: float = 0.0) -> Sampler:
    """Return a sampler by name.

    Raises:
        ValueError: no such sampler, or an ``eta`` for one that has none.
    """
    if name not in SAMPLERS:
        raise ValueError(f"sampler {name!r} is unknown: use {listed(SAMPLERS)}")
    row = SAMPLERS[name]
    takers = {name: row for name, row in SAMPLERS.items() if "eta" in row.settings}
    if eta and name not in takers:
        raise ValueError(
            f"eta={eta:g} is an option of sampler {listed(takers)}, and the sampler is {name}"
        )
    sampler: Sampler = load(row.home)(**row.options, **({"eta": eta} if eta else {}))
    return sampler


def count_steps(sampler: str, evaluations: int) -> int:
    """Return the number of steps of a sampler for these evaluations; the last step takes one."""
    per_step = SAMPLERS[sampler].evaluations
    return (evaluations - 1) // per_step + 1


def count_evaluations(sampler: str, steps: int) -> int:
    """Return the number of evaluations of a sampler for these steps."""
    return (steps - 1) * SAMPLERS[sampler].evaluations + 1


def build_sampling_schedule(
    whole: NoiseSchedule,
    method: Method,
    evaluations: int,
    *,
    sigma_max: float | None = None,
    rho: float | None = None,
) -> NoiseSchedule:
    """Return the schedule of a sampler for a number of network evaluations.

    Args:
        whole: the trained process.
        method: the sampler and a spacing by name (:data:`iddpm.config.choices.SPACINGS`) or a
            published request, see :func:`~iddpm.sampling.space_timesteps`.
        evaluations: network evaluations per sample.
        sigma_max, rho: for ``log_snr`` and ``karras``; by default those of the sampler.

    Raises:
        ValueError: more steps than the process has, or a request for another number of them.
    """
    sampler, spacing = method
    count = count_steps(sampler, evaluations)
    if spacing in SPACINGS:
        row, own = SPACINGS[spacing], SAMPLERS[sampler]
        options = {"sigma_max": sigma_max or own.sigma_max, "rho": rho or own.rho}
        chosen = {name: options[name] for name in row.settings}
        return whole.respace(load(row.home)(whole, count, **chosen))
    kept = space_timesteps(len(whole), spacing)
    if len(kept) != count:
        raise ValueError(
            f"spacing={spacing} has {len(kept)} steps, and steps={evaluations} evaluations "
            f"were requested: use steps={count_evaluations(sampler, len(kept))}"
        )
    return whole.respace(kept)
