"""The teacher of a distilled run, opened again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from iddpm.builders import guide
from iddpm.builders.few_steps import trajectory_schedule
from iddpm.builders.guides import bounded
from iddpm.config import ResolvedConfig
from iddpm.config.choices import DISTILLATIONS
from iddpm.config.distillation import DistillationConfig
from iddpm.diffusion import Denoise, Level, NoiseSchedule, Prediction
from iddpm.runs.layout import read_run_config, read_run_weights
from iddpm.runs.opened_run import OpenedRun
from iddpm.runs.step_tables import weights_digest
from iddpm.sampling import EVERYWHERE, DPMSolverPP, classifier_free, trajectory
from iddpm.tasks.start import Start
from iddpm.training.checkpoints.weights import hash_weights
from iddpm.training.distillation.mid_training import Paths, Trajectories

NUMBER_WEIGHTS = "number_emb."
"""Weights of what a teacher is not conditioned on; they start at zero."""


def open_teacher(
    config: ResolvedConfig, own: nn.Module | None, device: torch.device
) -> Denoise | Paths | None:
    """Return what the method of a distilled run is handed of the teacher, if anything.

    It is the teacher as it is sampled, with its guidance, or its trajectories. With a range of
    scales, it is called with the scale of each item as ``guidance``.

    Args:
        config: the settings of a distilled run.
        own: an own network of the shape of the teacher's.
        device: where it computes.

    Raises:
        FileNotFoundError: the run or its weights are gone.
        ValueError: its weights are others than those the training started from.
    """
    made = config.distillation
    if made is None or not DISTILLATIONS[made.method].teacher:
        return None
    run = OpenedRun(Path(made.teacher), device=str(device), network=own)
    _check_weights(made, weights_digest(run.denoiser))
    denoise = _guided(run, made)
    if DISTILLATIONS[made.method].teacher == "estimates":
        return denoise
    whole = run.denoiser.diffusion.schedule
    return TeacherPaths(denoise, trajectory_schedule(whole, made), run.denoiser.self_condition)


def start_of_distillation(config: ResolvedConfig) -> Start | None:
    """Return where the weights of a distilled run start; None for other runs.

    Raises:
        FileNotFoundError: the teacher or its weights are gone.
        ValueError: its weights are others than those the training started from.
    """
    made = config.distillation
    if made is None:
        return None
    directory = Path(made.teacher)
    weights, _ = read_run_weights(directory, read_run_config(directory))
    _check_weights(made, hash_weights(weights))
    return Start(directory, fresh=(NUMBER_WEIGHTS,))


def _check_weights(made: DistillationConfig, found: str) -> None:
    if found != made.weights:
        raise ValueError(
            f"{made.teacher} has other weights than when the distillation began: restore them, or "
            "distill it again into another directory"
        )


class TeacherPaths:
    """Trajectories of a teacher by DPM-Solver++ of order 2 (Hu et al. 2025).

    Attributes:
        positions: their timesteps, increasing.
    """

    def __init__(self, denoise: Denoise, schedule: NoiseSchedule, self_condition: bool) -> None:
        self.positions = schedule.index.double()
        self._denoise = denoise
        self._schedule = schedule
        self._self_condition = self_condition

    def __call__(self, noise: Tensor, **conditioning: Any) -> Trajectories:
        """Return the trajectories from standard normal noise [G, C, *spatial]."""
        points, x = [], noise
        for state in trajectory(
            DPMSolverPP(2),
            self._denoise,
            self._schedule,
            noise,
            self_condition=self._self_condition,
            **conditioning,
        ):
            points.append(x)
            x = state.x
        return Trajectories(torch.stack(points[::-1]), x)


def _guided(run: OpenedRun, made: DistillationConfig) -> Denoise:
    """Return the teacher with its guidance, whose scale is that of the distillation."""
    sampling = run.config.sampling
    if not isinstance(made.guidance, tuple):
        return guide(
            run.config, run.denoiser, sampling.model_copy(update={"guidance": made.guidance})
        )
    options: Mapping[str, Any] = {
        "sigma_interval": sampling.guidance_interval or EVERYWHERE,
        "rescale": sampling.guidance_rescale,
    }

    def guided(x_t: Tensor, level: Level, /, **conditioning: Any) -> Prediction:
        at_scales = classifier_free(run.denoiser, conditioning.pop("guidance"), **options)
        return bounded(at_scales, sampling)(x_t, level, **conditioning)

    return guided
