"""What can be chosen by name: the tables that settings, the command line and the builders share.

To offer another one, write it and add its row here. ``home`` is ``module:name`` of the class or
function that :func:`iddpm.builders.choices.load` returns; nothing here imports torch.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import CoreSchema, core_schema


@dataclass(frozen=True)
class Choice:
    """One row: what it is, for ``--help`` and the documentation, and where it is defined."""

    help: str
    home: str


@dataclass(frozen=True)
class SamplerChoice(Choice):
    """A sampler and how it is best used.

    Attributes:
        options: arguments of its constructor.
        settings: those of ``sampling`` that only some samplers take: ``eta`` is handed to the
            constructor, ``variance`` allows ``sampling.variance=analytic``.
        evaluations: network evaluations per step; the last step takes one.
        spacing: the automatic spacing.
        sigma_max: noise level from which ``log_snr`` and ``karras`` start.
        rho: of ``karras``; larger for more steps near the data.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    evaluations: int = 1
    spacing: str = "log_snr"
    sigma_max: float = 80.0
    rho: float = 7.0


SAMPLERS: Mapping[str, SamplerChoice] = {
    "ddpm": SamplerChoice(
        "ancestral sampling (Ho et al. 2020)",
        "iddpm.sampling.ddpm:DDPM",
        settings=("variance",),
        spacing="even",
    ),
    "ddim": SamplerChoice(
        "deterministic at eta 0 (Song et al. 2021)",
        "iddpm.sampling.ddim:DDIM",
        settings=("eta", "variance"),
        spacing="even",
    ),
    "heun": SamplerChoice(
        "second order, two evaluations per step (Karras et al. 2022)",
        "iddpm.sampling.heun:Heun",
        evaluations=2,
    ),
    "ipndm": SamplerChoice(
        "fourth-order multistep (Zhang & Chen 2023)",
        "iddpm.sampling.ipndm:IPNDM",
        spacing="karras",
    ),
    "dpmpp_2m": SamplerChoice(
        "DPM-Solver++ of order 2 (Lu et al. 2022)",
        "iddpm.sampling.dpm_solver:DPMSolverPP",
        {"order": 2},
    ),
    "dpmpp_3m": SamplerChoice(
        "DPM-Solver++ of order 3",
        "iddpm.sampling.dpm_solver:DPMSolverPP",
        {"order": 3},
    ),
    "dpmpp_2m_sde": SamplerChoice(
        "DPM-Solver++ of order 2 with fresh noise",
        "iddpm.sampling.dpm_solver:DPMSolverPP",
        {"order": 2, "stochastic": True},
        spacing="karras",
        sigma_max=30.0,  # fresh noise asks for shorter steps at large noise
        rho=3.0,
    ),
    "unipc_2": SamplerChoice(
        "UniPC of order 2 (Zhao et al. 2023)",
        "iddpm.sampling.unipc:UniPC",
        {"order": 2},
    ),
    "unipc_3": SamplerChoice("UniPC of order 3", "iddpm.sampling.unipc:UniPC", {"order": 3}),
    "er_sde": SamplerChoice(
        "ER-SDE of order 3 with fresh noise (Cui et al. 2023)",
        "iddpm.sampling.er_sde:ERSDE",
        {"order": 3},
    ),
}


@dataclass(frozen=True)
class AutomaticChoice:
    """A row of :data:`AUTOMATIC`.

    Attributes:
        evaluations: the largest number of network evaluations that it is for.
        sampler: the sampler.
        spacing: the spacing; by default that of the sampler.
    """

    evaluations: float
    sampler: str
    spacing: str = "auto"


_ON_IMAGES = (
    AutomaticChoice(1, "ddim"),
    AutomaticChoice(4, "ipndm"),
    AutomaticChoice(math.inf, "dpmpp_2m_sde"),
)
AUTOMATIC: Mapping[int, Sequence[AutomaticChoice]] = {1: _ON_IMAGES, 2: _ON_IMAGES, 3: _ON_IMAGES}
"""What ``sampler=auto`` is, by the number of axes of the data (1 signals, 2 images, 3 volumes) and
of evaluations: the first row that has enough. ``benchmarks/samplers.md`` measured it on images."""


@dataclass(frozen=True)
class SpacingChoice(Choice):
    """A function ``(schedule, count, **settings)`` that returns timesteps.

    Attributes:
        settings: those of ``sigma_max`` and ``rho`` that it takes.
    """

    settings: tuple[str, ...] = ()


SPACINGS: Mapping[str, SpacingChoice] = {
    "even": SpacingChoice("evenly spaced, with both ends", "iddpm.sampling.spacing:evenly"),
    "log_snr": SpacingChoice(
        "evenly spaced in log-SNR", "iddpm.sampling.spacing:log_snr_timesteps", ("sigma_max",)
    ),
    "karras": SpacingChoice(
        "evenly spaced in sigma^(1/rho)",
        "iddpm.sampling.spacing:karras_timesteps",
        ("sigma_max", "rho"),
    ),
    "ddim": SpacingChoice("an integer stride from 0", "iddpm.sampling.spacing:strided"),
}

MEASURED_SPACINGS: Mapping[str, Choice] = {
    "fitted": Choice(
        "fitted to the run's own trajectories, once (after Chen et al. 2024)",
        "iddpm.runs.fitted_steps:fitted_steps",
    ),
    "optimal": Choice(
        "the best likelihood, measured by iddpm likelihood",
        "iddpm.runs.step_tables:find_table",
    ),
}
"""Spacings that are measured on a trained run and kept in its cache."""


@dataclass(frozen=True)
class ScheduleChoice(Choice):
    """A function ``(num_steps, *, rescale_timesteps, **settings)`` that returns a schedule.

    Attributes:
        settings: those of ``diffusion`` that only some schedules take.
    """

    settings: tuple[str, ...] = ()


SCHEDULES: Mapping[str, ScheduleChoice] = {
    "linear": ScheduleChoice(
        "betas rise linearly (Ho et al. 2020)", "iddpm.diffusion.schedule:linear"
    ),
    "cosine": ScheduleChoice(
        "alpha_bar follows a cosine (Nichol & Dhariwal 2021)", "iddpm.diffusion.schedule:cosine"
    ),
    "log_snr": ScheduleChoice(
        "log-SNR falls linearly (Kingma et al. 2021)",
        "iddpm.diffusion.schedule:log_snr",
        ("log_snr_max", "log_snr_min"),
    ),
}


@dataclass(frozen=True)
class WeightedChoice(Choice):
    """A timestep sampler made with the schedule and the options of a weighting, by its name.

    Others are made with the number of steps.
    """

    weighting: str


TIMESTEP_SAMPLERS: Mapping[str, Choice] = {
    "uniform": Choice("all timesteps equally", "iddpm.training.timesteps:UniformTimesteps"),
    "low_discrepancy": Choice(
        "all timesteps equally, evenly spread within each batch",
        "iddpm.training.timesteps:LowDiscrepancyTimesteps",
    ),
    "loss_second_moment": Choice(
        "in proportion to the root mean squared loss, for loss=vlb",
        "iddpm.training.timesteps:LossSecondMomentTimesteps",
    ),
    "log_normal": WeightedChoice(
        "log-normal levels, for loss.weighting=log_normal (Karras et al. 2022)",
        "iddpm.training.timesteps:LogNormalTimesteps",
        weighting="log_normal",
    ),
}

OPTIMIZERS: Mapping[str, Choice] = {
    "adamw": Choice("AdamW (Loshchilov & Hutter 2019)", "iddpm.builders.optimizer:adamw"),
    "muon": Choice(
        "Muon for matrices and convolutions, AdamW for the rest (Jordan et al. 2024)",
        "iddpm.builders.optimizer:muon",
    ),
}
"""Functions of a network and the settings of training."""


@dataclass(frozen=True)
class DistillationChoice(Choice):
    """A loss ``(denoiser, x0, t, noise, **settings, **conditioning)`` of distillation.

    Attributes:
        settings: those of ``distillation`` that it takes.
        teacher: what of the teacher it is handed: its ``estimates``, its ``trajectories`` or
            nothing. With either, the teacher may be guided.
        differences: it divides small differences of the network's outputs, for which 16-bit
            precision is too coarse.
        progress: it takes ``progress``, the share of the training that is done.
        numbers: what the network is conditioned on beside the time.
        sampler: the class that draws samples of the model.
    """

    settings: tuple[str, ...] = ()
    teacher: str = ""
    differences: bool = False
    progress: bool = False
    numbers: tuple[str, ...] = ()
    sampler: str = "iddpm.sampling.multistep_consistency:Consistency"


DISTILLATIONS: Mapping[str, DistillationChoice] = {
    "consistency_tuning": DistillationChoice(
        "pairs of noise levels of the data (Geng et al. 2024)",
        "iddpm.training.distillation.consistency_tuning:consistency_tuning",
        ("divisor", "huber"),
    ),
    "consistency_distillation": DistillationChoice(
        "steps of the teacher, guided or not (Song et al. 2023)",
        "iddpm.training.distillation.consistency_distillation:consistency_distillation",
        ("divisor", "huber"),
        teacher="estimates",
    ),
    "mid_training": DistillationChoice(
        "the ends of the teacher's trajectories (Hu et al. 2025)",
        "iddpm.training.distillation.mid_training:mid_training",
        ("huber",),
        teacher="trajectories",
    ),
    "continuous": DistillationChoice(
        "the derivative along the path, normalized (Lu & Song 2024)",
        "iddpm.training.distillation.continuous:continuous",
        teacher="estimates",
        differences=True,
        progress=True,
    ),
    "mean_flow": DistillationChoice(
        "the mean velocity between two levels (Geng et al. 2025)",
        "iddpm.training.distillation.mean_flow:mean_flow",
        teacher="estimates",
        differences=True,
        numbers=("end",),
        sampler="iddpm.sampling.mean_velocity:MeanFlow",
    ),
}


@dataclass(frozen=True)
class OperatorChoice(Choice):
    """A linear operator of restoration: its class, and the option that it takes in ``settings``."""

    settings: str = ""


OPERATORS: Mapping[str, OperatorChoice] = {
    "blur": OperatorChoice(
        "a Gaussian blur of --width", "iddpm.sampling.spectral_operators:Convolution", "width"
    ),
    "mask": OperatorChoice("what --mask marks is missing", "iddpm.sampling.operators:Mask", "mask"),
    "subsample": OperatorChoice(
        "every --factor-th position", "iddpm.sampling.operators:Subsample", "factor"
    ),
    "downscale": OperatorChoice(
        "the mean of blocks of --factor", "iddpm.sampling.operators:Downscale", "factor"
    ),
}

RESTORATIONS: Mapping[str, Choice] = {
    "pigdm": Choice(
        "the gradient of the residual (Song et al. 2023)", "iddpm.sampling.restoration:pigdm"
    ),
    "mmps": Choice(
        "the posterior's mean by conjugate gradients (Rozet et al. 2024)",
        "iddpm.sampling.restoration:mmps",
    ),
    "ddnm": Choice(
        "range and null space, no gradient (Wang et al. 2023)", "iddpm.sampling.restoration:ddnm"
    ),
}
"""The first is the default, by the measurements of docs/restoration.md."""

PREDICTIONS: Mapping[str, str] = {
    "eps": "the noise",
    "x0": "the data",
    "v": "sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0 (Salimans & Ho 2022)",
    "edm": "the preconditioned output F (Karras et al. 2022)",
    "previous": "the mean of x_{t-1}",
    "categorical": "logits of the levels of the data, of at most 8 bits",
}
"""Help by name; :data:`iddpm.diffusion.prediction.PREDICTION_TYPES` computes them."""
LEVELS = ("categorical",)
"""Predictions that give a probability to each level of the data; no space to measure errors in."""
MOST_BITS = 8
"""Depth of the data that they serve."""
BLIND_AT_PURE_NOISE = ("eps", "previous")
"""Predictions that say nothing of the data at a step of pure noise."""


class OneOf:
    """Annotate a setting of type str with the names that it can have."""

    def __init__(self, names: Mapping[str, Any], *more: str) -> None:
        self.names = [*more, *names]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """Accept these names only."""
        return core_schema.literal_schema(self.names)


def listed(names: Iterable[str], *more: str) -> str:
    """Return the names as a list in a sentence: ``a, b or c``."""
    *others, last = [*more, *names]
    return f"{', '.join(others)} or {last}" if others else last
