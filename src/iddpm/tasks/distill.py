"""Distillation: a model of one, two or four evaluations from a trained run."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from iddpm.builders import check_guidance
from iddpm.builders.own_network import Network
from iddpm.config import ResolvedConfig
from iddpm.config.distillation import DistillationConfig, Guidance, validate_distillation
from iddpm.runs.layout import CONFIG, read_run_config, read_run_weights
from iddpm.runs.opened_run import OpenedRun
from iddpm.runs.run import Run
from iddpm.tasks.start import Start
from iddpm.tasks.teacher import NUMBER_WEIGHTS
from iddpm.tasks.train import train_until_stop, unless_stopped
from iddpm.tasks.training_setup import TrainRequest
from iddpm.training.checkpoints.weights import hash_weights
from iddpm.training.loop_settings import Reporter

TRAINING: dict[str, Any] = {
    "learning_rate": 3e-4,
    "warmup_steps": 20,
    "anneal": "linear",
    "ema_rates": [0.9993],
    # Norms are in the hundreds, so that a limit of 1 would scale down every step.
    "gradient_clip": None,
}
"""Settings of the training that are not those of the teacher; a file and ``-s`` override them."""
KEPT_TRAINING = ("batch_size", "microbatch", "parallel", "label_dropout", "compile")
KEPT_SAMPLING = ("clip", "threshold", "low_res_noise", "batch_size", "precision")
STEPS_SHARE = 10
FEWEST_STEPS, MOST_STEPS = 400, 8000
"""The length of the training: a tenth of the teacher's within these bounds, the upper one as
published, but never more than the teacher's."""
MEASUREMENTS = 8
"""How often samples are measured and drawn during training."""


def distill(
    run: Path | str,
    data: Any = None,
    *,
    network: Network | None = None,
    guidance: Guidance = 1.0,
    features: str | None = None,
    settings: Sequence[str] = (),
    out: Path | str | None = None,
    resume: bool = False,
    accept_data: bool = False,
    reporter: Reporter | None = None,
) -> Run:
    """Make a model that samples in 1, 2 or 4 evaluations from a trained run, and return its run.

    Args:
        run: the run directory of the teacher.
        data: the data in memory that it was trained on; files are opened by themselves.
        network: the own network of a teacher that has one.
        guidance: scale of the classifier-free guidance that becomes part of the model, or a lower
            and an upper scale: sampling then chooses one between these.
        features: of the Frechet distance during training: the directory of a classifier, or
            ``"pca"``; by default the teacher's ``classifier`` directory if there is one.
        settings: assignments such as ``"training.steps=1000"``.
        out: the run directory, ``RUN_distilled`` by default.
        resume: continue the run in ``out``.
        accept_data: resume even if the data has changed.
        reporter: receives the progress; the terminal by default.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: an argument does not work, or the run cannot
            be distilled; nothing has been written.
        RunFailed: the training cannot continue.
        KeyboardInterrupt, SystemExit: on signals, as :func:`~iddpm.tasks.train.train`.

    Source: Geng et al. 2024, "Consistency Models Made Easy".

    Example::

        run = iddpm.distill("runs/digits", guidance=2.0, out="runs/digits_fast")
        x = run.sample(16, steps=1)
    """
    wanted = TrainRequest(
        data,
        network=network,
        settings=settings,
        out=out,
        resume=resume,
        accept_data=accept_data,
        reporter=reporter,
    )
    request = distillation_request(Path(run), wanted, guidance=guidance, features=features)
    return unless_stopped(*train_until_stop(request))


def distillation_request(
    run: Path, wanted: TrainRequest, *, guidance: Guidance = 1.0, features: str | None = None
) -> TrainRequest:
    """Return the request to train that distills a run.

    Args:
        run, guidance, features: as for :func:`distill`.
        wanted: the user's settings, directory and own network.
    """
    out = wanted.out or run.with_name(f"{run.name}_distilled")
    if wanted.resume:
        _check_resumed(Path(out), run)
        return replace(wanted, out=out)
    teacher = OpenedRun(run, network=wanted.network, data=wanted.memory, device="cpu")
    config = teacher.config
    teacher.task.check_draws(run)
    teacher.task.check_denoises(run, "distillation")
    scales = guidance if isinstance(guidance, tuple) else (guidance, guidance)
    for scale in scales:
        check_guidance(config, scale)
    usual = config.sampling.guidance
    if usual != 1 and not scales[0] <= usual <= scales[1]:
        warnings.warn(
            f"{run} is sampled with guidance={usual:g} by default, and the distilled model is not: "
            f"--guidance {usual:g} makes it part of it",
            stacklevel=2,
        )
    weights, _ = read_run_weights(run, config)
    made = validate_distillation(
        {
            "teacher": str(run),
            "weights": hash_weights(weights),
            "method": "consistency_tuning" if guidance == 1 else "consistency_distillation",
            "guidance": guidance,
            "features": features or _own_features(run),
        }
    )
    start = Start(run, fresh=(NUMBER_WEIGHTS,))
    return replace(wanted, base=_base(config, made), out=out, init_from=start)


def _check_resumed(out: Path, run: Path) -> None:
    """Raise unless a run directory, if it is one, was distilled from this teacher."""
    if not (out / CONFIG).is_file():
        return  # refused by the training
    made = read_run_config(out).distillation
    if made is None:
        raise ValueError(f"{out} was not distilled: continue it with iddpm train --resume")
    if Path(made.teacher).resolve() != run.resolve():
        raise ValueError(
            f"{out} was distilled from {made.teacher}, not from {run}: name that run, or if it has "
            f"moved, continue with iddpm train --resume --out {out} -s distillation.teacher={run}"
        )


def _own_features(run: Path) -> str:
    """Return the classifier of a run, which ``iddpm demo`` trains for it, or ``pca``."""
    own = run / "classifier"
    return str(own) if (own / CONFIG).is_file() else "pca"


def _base(config: ResolvedConfig, made: DistillationConfig) -> dict[str, Any]:
    """Return the settings of a distilled run that the user's override."""
    values = config.model_dump(mode="json")
    del values["preset"]  # it is about the teacher's training
    steps = max(FEWEST_STEPS, min(config.training.steps // STEPS_SHARE, MOST_STEPS))
    steps = min(steps, config.training.steps)
    every = max(1, steps // MEASUREMENTS)
    kept = {name: values["training"][name] for name in KEPT_TRAINING}
    values["training"] = {
        **kept,
        **TRAINING,
        "steps": steps,
        "validate_every": every,
        "preview_every": every,
    }
    values["sampling"] = {name: values["sampling"][name] for name in KEPT_SAMPLING}
    values["sampling"]["steps"] = 2 if 2 in made.steps else made.steps[-1]
    if made.guidance_range is not None:
        low, high = made.guidance_range
        values["sampling"]["guidance"] = min(max(config.sampling.guidance, low), high)
    if config.diffusion.loss.kind == "own":  # which trained the teacher
        values["diffusion"]["loss"] = {"kind": "simple"}
    values["distillation"] = made.model_dump(mode="json")
    return values
