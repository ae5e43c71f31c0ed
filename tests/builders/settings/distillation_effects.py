"""The settings of distillation: what the loss, the teacher and the samples do with each."""

from types import SimpleNamespace

import numpy as np
import torch

from iddpm.builders import build_timesteps, task_of
from iddpm.builders.few_steps import (
    build_distillation_loss,
    few_step_schedule,
    training_guidance,
)
from iddpm.builders.network import build_diffusion
from iddpm.tasks import few_step_validation, teacher
from iddpm.tasks.few_step_validation import build_few_step_validation
from iddpm.training.precision import Precision
from tests.builders.settings.effect import BASE, DIFFERS, Effect, numbers

DISTILLED = (
    *BASE,
    "diffusion.predicts=v",
    "sampling.steps=2",
    "distillation.teacher=runs/t",
    "distillation.weights=w",
)
GUIDED = (*DISTILLED, "distillation.method=consistency_distillation")


def objective(scene):
    return task_of(scene.config).objective


def loss(scene):
    made = scene.config.distillation
    found = build_distillation_loss(made, len, lambda: 8)
    return [found.func.__name__, found.keywords.get("divisor")]


def of_steps(scene):
    """The options of the loss in the first and the last step."""
    found = build_distillation_loss(scene.config.distillation, len, lambda: 8)
    return [found.at(step).keywords["divisor"] for step in (0, 7)]


def huber(scene):
    return build_distillation_loss(scene.config.distillation, len, lambda: 8).keywords["huber"]


def levels(scene):
    t, _ = build_timesteps(scene.config).sample(np.array([0.2, 0.5, 1.0]))
    return numbers(t)


def noise_levels(scene):
    whole, made = build_diffusion(scene.config).schedule, scene.config.distillation
    return [numbers(few_step_schedule(whole, made, n).alpha_bar) for n in made.steps]


def guided(scene):
    """What the teacher is opened with."""
    opened = []

    def stand_in(path, **options):
        return SimpleNamespace(denoiser=None, config=scene.config)

    scene.patch.setattr(teacher, "OpenedRun", stand_in)
    scene.patch.setattr(teacher, "weights_digest", lambda denoiser: "w")
    scene.patch.setattr(teacher, "guide", lambda *asked: opened.append(asked[2].guidance))
    try:
        teacher.open_teacher(scene.config, None, "cpu")
    except ValueError as error:
        return str(error)
    return opened


def scales(scene):
    """The scales that items are trained at, or why there are none."""
    try:
        return numbers(training_guidance(scene.config.distillation, 0, range(4), 3))
    except ValueError as error:
        return str(error)


def features(scene):
    def refuse(name, *rest):
        raise ValueError(name)

    scene.patch.setattr(few_step_validation, "open_extractor", refuse)
    some = SimpleNamespace(name="data")
    split = SimpleNamespace(source=some, train=np.arange(4), held_out=np.arange(4, 8))
    config = scene.config
    try:
        build_few_step_validation(
            config, config.distillation, split, Precision("float32", torch.device("cpu")), None
        )
    except ValueError as error:
        return str(error)


def effect(look, seen, base=DISTILLED):
    return [Effect(look, seen, base=base)]


DISTILLATION = {
    "distillation.teacher": effect(objective, {"runs/t": DIFFERS, "runs/other": DIFFERS}),
    "distillation.weights": effect(guided, {"w": [1.0], "other": DIFFERS}, GUIDED),
    "distillation.method": effect(
        loss,
        {
            "consistency_tuning": ["consistency_tuning", 16.0],
            "consistency_distillation": ["consistency_distillation", 16.0],
            "mid_training": ["mid_training", None],
        },
    ),
    "distillation.guidance": [
        *effect(guided, {"1": [1.0], "2": [2.0]}, GUIDED),
        *effect(scales, {"[1, 3]": DIFFERS, "[2, 4]": DIFFERS}, (*GUIDED, "sampling.guidance=2")),
    ],
    "distillation.stages": effect(
        of_steps,
        {"2": [2.0, 4.0], "3": [2.0, 8.0]},
        (*DISTILLED, "distillation.divisor=2"),
    ),
    "distillation.huber": effect(huber, {"0": 0.0, "0.01": 0.01}),
    "distillation.divisor": effect(
        loss, {"16": ["consistency_tuning", 16.0], "256": ["consistency_tuning", 256.0]}
    ),
    "distillation.log_sigma_mean": effect(levels, {"-1.1": DIFFERS, "0.5": DIFFERS}),
    "distillation.log_sigma_spread": effect(levels, {"2": DIFFERS, "1": DIFFERS}),
    "distillation.sigma_max": [
        *effect(levels, {"80": DIFFERS, "20": DIFFERS}),
        *effect(noise_levels, {"80": DIFFERS, "20": DIFFERS}),
    ],
    "distillation.levels": effect(
        noise_levels,
        {"[[], [0.8]]": DIFFERS, "[[], [0.5]]": DIFFERS, "[[], [0.8], [2, 1]]": DIFFERS},
    ),
    "distillation.features": effect(features, {"pca": "pca", "runs/c": "runs/c"}),
}
