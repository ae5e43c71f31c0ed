"""Defaults that follow from the data and the budget."""

import re
from pathlib import Path

import numpy as np
import pytest

import iddpm
from iddpm.builders import decided, resolve
from iddpm.builders.decided import RULES, Facts, decide
from iddpm.config import read_config, settle
from iddpm.config.presets import PRESETS
from iddpm.config.resolved import AS_BEFORE
from iddpm.data.sources.memory import open_memory
from tests.conftest import images

EXAMPLES = Path(__file__).parents[2] / "examples"
SHAPE = ("model.channels=1", "model.size=[16,16]")
FACTS = Facts(True, True, 20_000, False, 1.0, 64, False)


def decisions(*settings):
    config = resolve(read_config(None, [*SHAPE, *settings])).model_dump()
    return {name: config[name.split(".")[0]][name.split(".")[1]] for name in RULES}


def of(name, **facts):
    return RULES[name].decide(FACTS._replace(**facts)).value


def test_what_is_decided_without_a_budget():
    assert decisions() == {
        "training.steps": 20_000,
        "diffusion.predicts": "v",
        "diffusion.neighborhood": 0,
        "training.learning_rate": 1e-4,
        "training.warmup_steps": 0,
        "training.anneal": "none",
        "training.ema_rates": (0.999,),
        "training.validate_every": 1000,
        "training.preview_every": 1000,
        "model.dropout": 0.0,
    }


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["training.steps=800"], (1e-3, 80, "linear", (0.99,))),
        (["training.steps=9000"], (1e-3, 100, "linear", (0.999,))),
        (["training.steps=9000", "model.model_channels=128"], (1e-4, 0, "none", (0.999,))),
        (["training.steps=100000"], (1e-4, 0, "none", (0.9999,))),
        (
            ["training.steps=800", "model.layers=magnitude_preserving"],
            (1e-2, 80, "linear", (0.99,)),
        ),
        (["training.max_time=15m"], (1e-3, 100, "linear", (0.99,))),
        (["training.max_time=2d"], (1e-4, 0, "linear", (0.9999,))),
        (["training.max_time=2d", "training.steps=800"], (1e-3, 80, "linear", (0.99,))),
    ],
)
def test_the_learning_rate_and_the_average_follow_from_the_budget(settings, expected):
    found = decisions(*settings)
    names = ("learning_rate", "warmup_steps", "anneal", "ema_rates")
    assert tuple(found[f"training.{name}"] for name in names) == expected


@pytest.mark.parametrize(("steps", "every"), [(7, 50), (800, 160), (1800, 360), (20_000, 1000)])
def test_a_short_training_is_looked_at_more_often(steps, every):
    assert of("training.preview_every", steps=steps) == every


def test_dropout_is_for_few_items_that_are_passed_often():
    assert of("model.dropout", passes=46.0) == 0.1
    assert of("model.dropout", passes=19.0) == 0
    assert of("model.dropout", passes=46.0, generates=False) == 0
    source = open_memory(images())
    for steps, share in ((100, 0.0), (400, 0.1)):  # batches of all 50 items, 100 and 400 passes
        config = read_config(None, [f"training.steps={steps // 10}"])
        assert resolve(config, source, 50).model.dropout == (0.1 if steps == 400 else share)


def test_what_is_stated_stays():
    stated = {
        "training.steps": 7, "diffusion.predicts": "categorical", "diffusion.neighborhood": 3,
        "training.learning_rate": 0.5,
        "training.warmup_steps": 3, "training.anneal": "none", "training.ema_rates": (0.5,),
        "training.validate_every": 0, "training.preview_every": 9,
        "model.dropout": 0.7,
    }  # fmt: skip
    texts = [f"{name}={list(v) if isinstance(v, tuple) else v}" for name, v in stated.items()]
    assert decisions(*texts) == stated


@pytest.mark.parametrize("stated", ["null", "absent"])
def test_in_a_run_of_an_earlier_version_no_value_is_the_old_rule(stated):
    values = resolve(read_config(None, SHAPE)).model_dump(mode="json")
    for name in RULES:
        section, setting = name.split(".")
        if stated == "null":
            values[section][setting] = None
        else:
            del values[section][setting]
    for config in (settle(read_config(base=values)), resolve(read_config(base=values | {
        "form": {"kind": "array"}}))):  # fmt: skip
        found = config.model_dump()
        for name in RULES:
            section, setting = name.split(".")
            assert found[section][setting] == AS_BEFORE[setting], name


def test_the_preset_published_is_what_the_defaults_were():
    assert decisions("preset=published") == {name: AS_BEFORE[name.split(".")[1]] for name in RULES}
    preset = PRESETS["published"]
    names = {f"{section}.{name}" for section, values in preset.items() for name in values}
    assert names == set(RULES), "everything that is decided"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_an_example_states_all_that_a_default_decides(path, monkeypatch):
    """The same settings, whatever the defaults are and whatever data they meet."""
    model = ["model.channels=4", "model.size=[64,64]"] if "[" not in path.read_text() else []
    config = read_config(path, model)
    values = config.model_dump()
    values["model"]["size"] = values["model"]["size"] or (64, 64)
    values["training"]["batch_size"] = 64
    facts = decided._facts_of(values, 10, values["training"]["steps"])
    names = [name for name, rule in RULES.items() if rule.decide(facts).why]
    before = {name: values[name.split(".")[0]][name.split(".")[1]] for name in names}
    assert None not in before.values()
    changed = config.model_dump() | {"preset": None}
    changed["training"]["batch_size"] = 64
    changed["model"]["size"] = values["model"]["size"]
    decide(changed, items=10)
    after = {name: changed[name.split(".")[0]][name.split(".")[1]] for name in names}
    assert after == before


def test_a_new_training_says_what_it_decided_and_a_resumed_one_does_not(tmp_path, capsys):
    np.save(tmp_path / "x.npy", images())
    small = ["model.model_channels=8", "model.num_res_blocks=1", "training.preview_every=0"]
    small += ["training.steps=1", "training.threads=1", "training.precision=float32"]
    out = tmp_path / "run"
    iddpm.train(tmp_path / "x.npy", out=out, settings=[*small, "training.anneal=none"])
    said = capsys.readouterr().out
    lines = dict(re.findall(r"^default +([a-z._]+)=(.*)$", said, re.MULTILINE))
    stated = {"training.steps", "training.anneal", "training.preview_every"}
    stated |= {"diffusion.neighborhood"}  # has no effect on what predicts v
    assert lines.keys() == RULES.keys() - stated
    assert lines["diffusion.predicts"].startswith("v: clean after a short training")
    text = (out / "config.yaml").read_text()
    assert "predicts: v" in text
    assert "learning_rate: 0.001" in text
    iddpm.train(out=out, resume=True, settings=["training.steps=2"])
    assert "default " not in capsys.readouterr().out
    assert iddpm.load(out).config.diffusion.predicts == "v"


def test_levels_are_also_estimated_from_their_neighbors():
    for dims, radius in ((1, 4), (2, 2), (3, 1)):
        size = [16] * dims
        config = resolve(
            read_config(None, ["model.channels=1", f"model.size={size}", "preset=likelihood"])
        )
        assert config.diffusion.neighborhood == radius
        facts = FACTS._replace(gives_levels=True, dims=dims)
        assert f"{(2 * radius + 1) ** dims - 1} neighbors" in (
            RULES["diffusion.neighborhood"].decide(facts).why
        )
    assert of("diffusion.neighborhood", gives_levels=True, own=True) == 0
    assert of("diffusion.neighborhood") == 0
    with pytest.raises(ValueError, match="neighborhood=2 needs predicts=categorical or decoder"):
        resolve(read_config(None, [*SHAPE, "diffusion.neighborhood=2"]))


def test_every_decision_names_its_measurement_and_it_exists():
    root = Path(decided.__file__).parents[3]
    for name, rule in RULES.items():
        files = re.findall(r"[a-z0-9_/]+\.(?:md|py|yaml)", rule.source)
        assert files, name
        assert all((root / file).is_file() for file in files), name


def test_timesteps_that_the_network_does_not_receive_are_not_left_as_they_are():
    settings = [*SHAPE, "diffusion.time_input=log_snr", "diffusion.rescale_timesteps=false"]
    with pytest.raises(ValueError, match=r"rescale_timesteps=false has no effect with diff"):
        resolve(read_config(None, settings))
    assert resolve(read_config(None, settings[:-1])).diffusion.rescale_timesteps
