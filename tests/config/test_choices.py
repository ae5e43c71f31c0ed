"""The tables of choices agree with what computes them."""

from typing import get_args

import pytest
import torch

from iddpm.builders.load_choice import load
from iddpm.builders.sampling_plan import build_sampler, count_evaluations, count_steps
from iddpm.config import DiffusionConfig, ModelConfig, SamplingConfig, read_config
from iddpm.config.choices import (
    BLIND_AT_PURE_NOISE,
    MEASURED_SPACINGS,
    OPTIMIZERS,
    PREDICTIONS,
    SAMPLERS,
    SCHEDULES,
    SPACINGS,
    TIMESTEP_SAMPLERS,
    listed,
)
from iddpm.config.diffusion import WEIGHTINGS, Weighting
from iddpm.diffusion import cosine
from iddpm.diffusion.prediction import PREDICTION_TYPES, VarianceKind, prediction_type
from iddpm.networks.attention import QKVOrder
from iddpm.networks.blocks import DownsampleKind, UpsampleKind

ROWS = {
    f"{table}.{name}": row
    for table, rows in {
        "sampler": SAMPLERS,
        "spacing": SPACINGS,
        "measured_spacing": MEASURED_SPACINGS,
        "schedule": SCHEDULES,
        "timestep_sampler": TIMESTEP_SAMPLERS,
        "optimizer": OPTIMIZERS,
    }.items()
    for name, row in rows.items()
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_leads_to_something(name):
    found = load(ROWS[name].home)
    assert callable(found)
    assert found.__doc__
    assert ROWS[name].help


def test_every_sampler_can_be_built_and_has_a_known_spacing():
    for name, row in SAMPLERS.items():
        sampler = build_sampler(name)
        assert all(getattr(sampler, key) == value for key, value in row.options.items())
        assert row.spacing in SPACINGS
    assert build_sampler("ddim", 0.25).eta == 0.25
    with pytest.raises(ValueError, match=r"eta=0\.5 is an option of sampler ddim"):
        build_sampler("heun", 0.5)
    with pytest.raises(ValueError, match=r"sampler .euler. is unknown: use ddpm, .* or er_sde"):
        build_sampler("euler")


def test_evaluations_and_steps_are_inverse_to_each_other():
    for name in SAMPLERS:
        for steps in (1, 2, 7):
            assert count_steps(name, count_evaluations(name, steps)) == steps
    assert (count_steps("heun", 9), count_steps("heun", 10), count_steps("ddim", 9)) == (5, 5, 9)


def test_every_spacing_ends_at_the_noisiest_step_or_at_a_stride():
    whole = cosine(100)
    for name, row in SPACINGS.items():
        kept = load(row.home)(whole, 10)
        assert len(kept) == 10, name
        assert kept == sorted(kept)
    assert load(SPACINGS["even"].home)(whole, 10)[-1] == 99
    assert load(SPACINGS["ddim"].home)(whole, 10) == list(range(0, 100, 10))


def test_predictions_are_the_ones_that_are_computed():
    assert PREDICTIONS.keys() == PREDICTION_TYPES.keys()
    blind = {name for name in PREDICTIONS if prediction_type(name).blind_at_pure_noise}
    assert blind == set(BLIND_AT_PURE_NOISE)
    with pytest.raises(ValueError, match="predicts='u' is unknown: use one of eps, x0, v, edm"):
        prediction_type("u")


def test_weightings_are_functions_of_the_level_with_the_options_of_their_settings():
    sections = get_args(get_args(Weighting)[0])
    assert WEIGHTINGS == {
        "constant": (), "min_snr": ("gamma",), "sigmoid": ("bias",),
        "log_normal": ("log_sigma_mean", "log_sigma_spread"),
    }  # fmt: skip
    level = cosine(10).at(torch.arange(10))
    for section in sections:
        options = section().model_dump(exclude={"kind"})
        if section.home is not None:
            assert load(section.home)(level, **options).shape == (10,)


def test_settings_offer_what_the_rooms_compute():
    def allowed(section, name):
        schema = section.model_json_schema()["properties"][name]
        return set(schema["enum"])

    assert allowed(DiffusionConfig, "variance") == set(get_args(VarianceKind)) - {"analytic"}
    assert allowed(ModelConfig, "upsample") == set(get_args(UpsampleKind))
    assert allowed(ModelConfig, "downsample") == set(get_args(DownsampleKind))
    assert allowed(ModelConfig, "qkv_order") == set(get_args(QKVOrder))
    assert allowed(SamplingConfig, "sampler") == {"auto", *SAMPLERS}
    assert allowed(DiffusionConfig, "schedule") == set(SCHEDULES)


def test_a_name_that_no_table_knows_is_refused():
    for setting, known in (
        ("diffusion.schedule=quadratic", "'linear', 'cosine' or"),
        ("diffusion.predicts=score", "'eps'"),
        ("sampling.sampler=euler", "'ddim'"),
        ("training.timestep_sampler=often", "'uniform'"),
        ("training.optimizer=lion", "'muon'"),
        ("sampling.spacing=odd", "use auto, even"),
    ):
        with pytest.raises(ValueError, match=known):
            read_config(None, [setting])


def test_a_list_reads_as_a_sentence():
    assert listed({"a": 1}) == "a"
    assert listed({"a": 1, "b": 2}, "auto") == "auto, a or b"
