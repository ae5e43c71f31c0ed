"""Defaults that the documents and results rely on: another one is a decision, not an accident."""

import pytest

from iddpm.config import Config
from iddpm.config.distillation import DistillationConfig
from iddpm.config.training import PosthocEMA

DEFAULTS = {
    "training.betas": (0.9, 0.999),
    "training.weight_decay": 0.0,
    "training.ema_warmup": True,
    "training.gradient_clip": 1.0,
    "training.label_dropout": 0.1,
    "training.clean_share": 0.25,
    "diffusion.rescale_timesteps": True,
    "sampling.steps": 50,
    "sampling.clip": True,
    "model.smooth_start": True,
    "model.num_heads": 4,
    "data.held_out": 0.05,
}

DISTILLATION = {
    "method": "consistency_tuning",
    "guidance": 1.0,
    "divisor": 16.0,
    "log_sigma_mean": -1.1,
    "log_sigma_spread": 2.0,
    "sigma_max": 80.0,
    "levels": ((), (0.8,), (5.0, 1.1, 0.5)),
    "features": "pca",
}


@pytest.mark.parametrize("name", DISTILLATION)
def test_a_default_of_distillation_is_what_it_was(name):
    assert DistillationConfig.model_fields[name].get_default() == DISTILLATION[name]
    assert Config().distillation is None


@pytest.mark.parametrize("name", DEFAULTS)
def test_a_default_is_what_it_was(name):
    section, setting = name.split(".")
    model = type(getattr(Config(), section)) if section in Config.model_fields else None
    assert model is not None
    assert model.model_fields[setting].get_default() == DEFAULTS[name]


def test_averages_for_later_have_the_lengths_of_edm2():
    assert PosthocEMA().lengths == (0.05, 0.1)  # Karras et al. 2024, section 3.2
