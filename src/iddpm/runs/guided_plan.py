"""Sampling plans of a run, with or without guidance by another model."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from iddpm.builders import (
    Guides,
    SamplingPlan,
    build_gradient,
    build_sampling_plan,
    build_weaker,
    requested_sampling,
)
from iddpm.builders.few_steps import check_few_steps
from iddpm.data.conditioning.labels import Classes
from iddpm.runs.classifier import load_classifier
from iddpm.runs.fitted_steps import fitted_steps
from iddpm.runs.layout import read_run_config
from iddpm.runs.opened_run import OpenedRun
from iddpm.runs.step_tables import find_table
from iddpm.runs.tuned_methods import tuned_method


def plan_sampling(
    run: OpenedRun,
    *,
    classifier: Path | str | None = None,
    classifier_scale: float = 1.0,
    classifier_form: str = "score",
    autoguidance: Path | str | int | None = None,
    autoguidance_scale: float = 2.0,
    **settings: Any,
) -> SamplingPlan:
    """Return a run's sampling plan; arguments and errors as for :meth:`Run.plan`."""
    config = run.config
    sampling = requested_sampling(config.sampling, config.diffusion.num_steps, settings)
    if settings.get("guidance_rescale") and sampling.guidance in (0, 1):
        raise ValueError(
            f"guidance_rescale={sampling.guidance_rescale:g} changes classifier-free guidance, and "
            f"guidance={sampling.guidance:g} is none: give a guidance other than 0 and 1"
        )
    guided = classifier is not None or autoguidance is not None
    check_few_steps(config, sampling, guided=guided)  # before other models and tables are opened
    classes, gradient, weaker = run.classes, None, None
    if classifier is not None:
        guide = load_classifier(classifier, str(run.device))
        gradient = build_gradient(config, run.denoiser, guide.network, guide.config, guide.schedule)
        names = guide.class_names
        classes = classes or Classes(len(names), names, str(classifier))
    if autoguidance is not None:
        other = _weaker(run, autoguidance)
        other.task.check_denoises(other.directory, "autoguidance")
        weaker = build_weaker(config, run.denoiser, other.config, other.denoiser)
    guides = Guides(weaker, autoguidance_scale, gradient, classifier_scale, classifier_form)
    table = find_table(run.directory, run.denoiser) if sampling.needs_table else None
    tuned = tuned_method(run.directory, run.denoiser, sampling)
    if tuned is not None:
        sampling = sampling.model_copy(update=tuned._asdict())
    fitted = fitted_steps(run) if sampling.spacing == "fitted" else None
    plan = build_sampling_plan(
        config,
        run.denoiser,
        sampling,
        guides=guides,
        classes=classes,
        table=table,
        fitted=fitted,
    )
    return replace(plan, tuned=tuned is not None)


def _weaker(run: OpenedRun, which: Path | str | int) -> OpenedRun:
    """Return an earlier checkpoint of this run, or another run."""
    device = str(run.device)
    if str(which).isdecimal() and not Path(str(which)).exists():
        return OpenedRun(
            run.directory,
            ema=run.ema,
            checkpoint=int(str(which)),
            device=device,
            network=run.network,
        )
    same = read_run_config(Path(str(which))).model.network == run.config.model.network
    return OpenedRun(str(which), device=device, network=run.network if same else None)
