"""Presets: what they set, what overrides them, and what a run keeps of them."""

import pytest

from iddpm.config import read_config, to_yaml
from iddpm.config.presets import PRESETS


def test_what_the_preset_of_likelihood_sets():
    config = read_config(None, ["preset=likelihood"])
    assert config.preset == "likelihood"
    diffusion, training = config.diffusion, config.training
    assert (diffusion.schedule, diffusion.predicts) == ("log_snr", "categorical")
    assert (diffusion.variance, diffusion.loss.kind) == ("fixed_small", "vlb")
    assert (training.timestep_sampler, training.learning_rate) == ("low_discrepancy", 1e-3)
    assert training.ema_rates == (0.99,)


@pytest.mark.parametrize("name", PRESETS)
def test_every_setting_of_a_preset_reaches_the_settings(name):
    plain, config = read_config(), read_config(None, [f"preset={name}"])
    for section, values in PRESETS[name].items():
        for setting in values:
            ours = getattr(getattr(config, section), setting)
            assert ours != getattr(getattr(plain, section), setting), (section, setting)


def test_what_is_stated_overrides_a_preset_wherever_it_stands(tmp_path):
    (tmp_path / "c.yaml").write_text("training: {learning_rate: 2e-4}\npreset: likelihood\n")
    config = read_config(
        tmp_path / "c.yaml",
        ["diffusion.predicts=v", "diffusion.loss.kind=simple", "training.warmup_steps=7"],
        {"training": {"ema_rates": [0.9]}},
    )
    assert (config.training.learning_rate, config.training.warmup_steps) == (2e-4, 7)
    assert config.training.ema_rates == (0.9,)
    assert (config.diffusion.predicts, config.diffusion.loss.kind) == ("v", "simple")
    assert config.diffusion.schedule == "log_snr"
    (tmp_path / "run.yaml").write_text(to_yaml(config))
    assert read_config(tmp_path / "run.yaml") == config


def test_an_unknown_preset_is_refused():
    for wrong in ("preset=speed", "preset=[likelihood]"):
        with pytest.raises(ValueError, match=r"preset.*'quick' or 'likelihood'"):
            read_config(None, [wrong])
