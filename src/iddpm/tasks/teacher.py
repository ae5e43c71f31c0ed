"""The teacher of a distilled run, opened again."""

from pathlib import Path

import torch
from torch import nn

from iddpm.builders import guide
from iddpm.builders.few_steps import NEEDS_TEACHER
from iddpm.config import ResolvedConfig
from iddpm.diffusion import Denoise
from iddpm.runs.opened_run import OpenedRun
from iddpm.runs.step_tables import weights_digest


def open_teacher(
    config: ResolvedConfig, own: nn.Module | None, device: torch.device
) -> Denoise | None:
    """Return the teacher as it is sampled, with its guidance, if the method evaluates it.

    Args:
        config: the settings of a distilled run.
        own: an own network of the shape of the teacher's.
        device: where it computes.

    Raises:
        FileNotFoundError: the run or its weights are gone.
        ValueError: its weights are others than those the training started from.
    """
    made = config.distillation
    if made is None or made.method not in NEEDS_TEACHER:
        return None
    run = OpenedRun(Path(made.teacher), device=str(device), network=own)
    if weights_digest(run.denoiser) != made.weights:
        raise ValueError(
            f"{made.teacher} has other weights than when the distillation began: restore them, or "
            "distill it again into another directory"
        )
    sampling = run.config.sampling.model_copy(update={"guidance": made.guidance})
    return guide(run.config, run.denoiser, sampling)
