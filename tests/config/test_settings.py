import subprocess
import sys

import pytest
import yaml

from iddpm.config import Config, HybridLoss, VLBLoss, read_config, to_yaml, validate


def test_defaults_are_valid_and_round_trip():
    config = read_config()
    assert validate(yaml.safe_load(to_yaml(config))) == config == Config()


def test_file_then_assignments(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "training:\n  learning_rate: 1e-3\n  steps: 5\nmodel:\n  channel_mult: [1, 2]\n"
    )
    config = read_config(path, ["training.steps=7", "training.max_time=30m"])
    assert config.training.learning_rate == 1e-3  # YAML reads 1e-3 as text
    assert config.training.steps == 7
    assert config.training.max_time == 1800
    for said, seconds in {
        "1m30s": 90,
        "1h 30m": 5400,
        "1.5h": 5400,
        "2d": 172800,
        "45": 45,
    }.items():
        assert read_config(None, [f"training.max_time={said}"]).training.max_time == seconds
    assert config.model.channel_mult == (1, 2)
    assert validate(yaml.safe_load(to_yaml(config))) == config


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[0-9]+", "[0-9]+"),
        ("{a}", "{a}"),
        ("a: b", "a: b"),
        ("a #1", "a #1"),
        ("007", "007"),
        ("no", "no"),
        ("*x", "*x"),
        ("[" * 50, "[" * 50),
        ("'[x]'", "[x]"),
        ('"null"', "null"),
        ("null", None),
        ("", None),
    ],
)
def test_a_setting_that_takes_text_takes_it_as_it_stands(text, value):
    for name in ("group", "path", "column", "layout"):
        assert getattr(read_config(None, [f"data.{name}={text}"]).data, name) == value
    assert read_config(None, [f"training.wandb={text}"]).training.wandb == value


def test_loss_by_name_by_kind_and_by_option():
    assert isinstance(read_config(None, ["diffusion.loss=vlb"]).diffusion.loss, VLBLoss)
    assert isinstance(read_config(None, ["diffusion.loss.kind=vlb"]).diffusion.loss, VLBLoss)
    loss = read_config(None, ["diffusion.loss.vb_weight=0.5"]).diffusion.loss
    assert loss == HybridLoss(vb_weight=0.5)


def test_weighting_by_name_by_kind_and_by_option():
    def of(*assignments):
        config = read_config(None, [f"diffusion.loss.{a}" for a in assignments])
        assert validate(yaml.safe_load(to_yaml(config))) == config
        return config.diffusion.loss.weighting.model_dump()

    assert of() == {"kind": "constant"}
    assert of("weighting=min_snr") == {"kind": "min_snr", "gamma": 5.0}
    assert of("weighting.kind=sigmoid") == {"kind": "sigmoid", "bias": 0.0}
    assert of("weighting.gamma=3") == {"kind": "min_snr", "gamma": 3.0}
    assert of("weighting=sigmoid", "weighting.bias=-1") == {"kind": "sigmoid", "bias": -1.0}


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["training.timestep_sampler=log_normal"], "weighting=log_normal, which is not set"),
        (["training.timestep_sampler=log_normal", "diffusion.loss=vlb"], "which is not set"),
        (
            ["diffusion.loss.weighting=log_normal", "diffusion.predicts=eps"],
            "predicts=eps: use predicts=edm, v or x0",
        ),
        (["training.noise_assignment=nearest", "diffusion.loss=vlb"], "loss=vlb has none"),
        (["training.noise_assignment=nearest", "task=classification"], "classification has none"),
    ],
)
def test_levels_and_noise_are_refused_where_they_do_not_fit_the_loss(assignments, message):
    with pytest.raises(ValueError, match=message):
        read_config(None, assignments)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["predicts=eps"], "predicts=eps does not: use predicts=v, x0 or edm"),
        (["predicts=previous"], "predicts=previous does not: use predicts=v"),
        (["predicts=v", "loss.space=eps"], "loss.space=eps does not train the step of pure noise"),
        (["predicts=v", "loss.weighting=min_snr"], "loss.weighting=min_snr has weight 0"),
        (["predicts=x0", "loss.weighting=sigmoid"], "loss.weighting=sigmoid has weight 0"),
    ],
)
def test_zero_terminal_snr_is_refused_where_pure_noise_would_not_be_trained(assignments, message):
    assignments = [f"diffusion.{a}" for a in [*assignments, "zero_terminal_snr=true"]]
    with pytest.raises(ValueError) as caught:
        read_config(None, assignments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.learning_rat=1", "did you mean 'training.learning_rate'"),
        ("steps=4", "did you mean 'training.steps' or 'sampling.steps'"),
        ("training.xyz=4", "training has steps"),
        ("nothing.at.all=4", "the settings are task, preset, data"),
        ("data.image_size=0", "data.image_size=0 does not work"),
        ("diffusion.loss.vb_wieght=2", "did you mean 'diffusion.loss.vb_weight'"),
        ("diffusion.loss.vb_weight=-2", "diffusion.loss.vb_weight=-2 does not work"),
        ("diffusion.loss.weighting=best", "'constant', 'min_snr', 'sigmoid'"),
        ("diffusion.loss.weighting.gamma=0", "diffusion.loss.weighting.gamma=0 does not work"),
        ("diffusion.loss.weighting.gama=1", "did you mean 'diffusion.loss.weighting.gamma'"),
        ("diffusion.loss={kind: vlb, weighting: min_snr}", "another kind of diffusion.loss"),
        ("training.posthoc_ema.length=0.1", "did you mean 'training.posthoc_ema.lengths'"),
        ("training.posthoc_ema.lengths=[0.4]", "lengths.0=0.4 does not work"),
        ("diffusion.sigma_data=0", "diffusion.sigma_data=0 does not work"),
        ("diffusion.predicts=mean", "'eps', 'x0', 'v', 'edm', 'previous' or 'categorical'"),
        ("training.timestep_sampler=even", "'low_discrepancy'"),
        ("diffusion.loss=best", "'simple', 'hybrid', 'vlb'"),
        ("diffusion.variance=fixed_small", "use loss=simple, or variance=learned_range"),
        ("diffusion.loss=simple", "use loss=hybrid, or variance=fixed_small"),
        ("training.steps=many", "training.steps='many'"),
        ("training.precision=fp8", "'auto', 'float32', 'bf16' or 'fp16'"),
        ("training.ema_rates=[]", "training.ema_rates"),
        ("model=3", "model=3"),
        ("model.num_classes=3", "class_conditional=true"),
        ("steps", "write key=value"),
    ],
)
def test_errors_are_one_sentence_with_a_way_on(assignment, message):
    with pytest.raises(ValueError) as caught:
        read_config(None, [assignment])
    text = str(caught.value)
    assert message in text
    assert "\n" not in text


def test_files_that_are_not_settings(tmp_path):
    with pytest.raises(FileNotFoundError, match="no settings file"):
        read_config(tmp_path / "none.yaml")
    for name, text, message in (
        ("list.yaml", "- 1\n", "holds a list"),
        ("bad.yaml", "a: [1\n", "not readable as YAML"),
        ("code.yaml", "a: !!python/object/apply:os.system ['true']\n", "not readable as YAML"),
    ):
        (tmp_path / name).write_text(text)
        with pytest.raises(ValueError, match=message):
            read_config(tmp_path / name)
    (tmp_path / "empty.yaml").write_text("")
    assert read_config(tmp_path / "empty.yaml") == Config()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().training.steps = 3


def test_settings_and_help_need_no_torch():
    program = (
        "import sys; import iddpm, iddpm.config, iddpm.cli.main; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_conditions_keep_their_order_and_round_trip():
    config = read_config(None, ["model.conditions={sex: {kind: class, names: [2, 1]}, age: {}}"])
    assert list(config.model.conditions) == ["sex", "age"]
    assert config.model.conditions["sex"].names == ("2", "1")
    assert [c.resolved for c in config.model.conditions.values()] == [True, False]
    assert list(validate(yaml.safe_load(to_yaml(config))).model.conditions) == ["sex", "age"]
    assert read_config(None, ["model.conditions.angle.period=360"]).model.conditions["angle"].period


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.conditions.age.perid=3", "did you mean 'model.conditions.age.period'"),
        ("model.conditions.age.period=0", "model.conditions.age.period=0 does not work"),
        ("model.conditions.age={kind: class, period: 3}", "range and period need kind=number"),
        ("model.conditions.age={range: [0, 1], period: 3}", "has a period and no range"),
        ("model.conditions.age.range=[3, 3]", "is empty: give the lowest number first"),
        ("model.conditions.sex.names=[f, m]", "names need kind=class"),
    ],
)
def test_a_condition_that_cannot_be_says_why(assignment, message):
    with pytest.raises(ValueError) as caught:
        read_config(None, [assignment])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "setting", ["data.conditions=t.csv", "data.given=x", "model.conditions={}"]
)
def test_a_classifier_takes_no_conditioning(setting):
    with pytest.raises(ValueError, match="takes no conditioning"):
        read_config(None, ["task=classification", setting])


def test_settings_of_text_take_text_that_yaml_reads_as_something_else():
    for text in ("[^_]+", "[0-9]", "{2}", "1e3", "007", "true", "p: q", "[x].png"):
        assert read_config(None, [f"data.group={text}"]).data.group == text
        assert read_config(None, [f"data.path={text}"]).data.path == text
    assert read_config(None, ["data.group=null"]).data.group is None
    assert read_config(None, ["data.group='[a]'"]).data.group == "[a]"
    with pytest.raises(ValueError, match=r"training\.steps"):
        read_config(None, ["training.steps=[1]"])
