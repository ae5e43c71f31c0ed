"""Settings that nobody means: refused at once, in one short sentence."""

import pytest

from iddpm.config import Config, read_config
from iddpm.config.validation_message import OTHER_NAMES

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{', '.join(['*' + a] * 10)}]\n"
    for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML = {
    "contains itself": "data: &a {x: *a}",
    "list that contains itself": "data: &a [*a]",
    "deep brackets": "data: " + "[" * 3000,
    "deep mappings": "data: " + "{a: " * 3000,
    "deep and closed": "data: " + "[" * 300 + "]" * 300,
    "alias bomb": BOMB,
    "number of 5,000 digits": "training: {steps: " + "9" * 5000 + "}",
    "long text": "training: {steps: " + "x" * 100_000 + "}",
    "binary": "\x00\x01",
}
ASSIGNMENTS = [
    ("batch-size=8", "did you mean 'training.batch_size'"),
    ("learning-rate=8", "did you mean 'training.learning_rate'"),
    (".=8", "is not a setting"),
    ("..=8", "is not a setting"),
    ("training.=8", "is not a setting"),
    (".steps=8", "is not a setting"),
    ("=8", "is not a setting"),
    (".".join("a" * 3000) + "=1", "no name has more than"),
    ("data=&a {x: *a}", "contains itself"),
    ("data=" + "[" * 3000, "nested more than"),
    ("training[0]=3", "unknown setting 'training[0]'"),
    ("x" * 100_000 + "=3", "unknown setting"),
    ("training.steps=" + "9" * 5000, "training.steps="),
    ("training.epochs=.inf", "training.epochs=inf does not work"),
    ("training.epochs=1e300", "less than or equal to 1000000000"),
    ("training.learning_rate=.inf", "training.learning_rate=inf does not work"),
    ("training.learning_rate=.nan", "training.learning_rate=nan does not work"),
    ("sampling.guidance=.nan", "sampling.guidance=nan does not work"),
    ("sampling.guidance_interval=[0, .inf]", "sampling.guidance_interval"),
    ("training.betas=[.nan, 0.9]", "training.betas"),
    ("diffusion.num_steps=10000000000000000000000000000000", "less than or equal to 1000000"),
    ("data.image_size=1000000000000", "data.image_size"),
    ("model.model_channels=1000000000000", "less than or equal to 65536"),
    ("model.num_res_blocks=1000000", "less than or equal to 64"),
    ("data.workers=1000000000000", "less than or equal to 1024"),
    ("training.threads=100000000", "less than or equal to 1024"),
    ("training.threads=10000000000000000000000000000000", "less than or equal to 1024"),
    ("model.channel_mult=" + str([1] * 1000), "model.channel_mult"),
    ("scale=1000000000000", "scale"),
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", YAML)
def test_files(name, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(YAML[name])
    with pytest.raises(ValueError) as caught:
        read_config(path)
    assert len(str(caught.value)) < 400 + len(str(path))
    assert "\n" not in str(caught.value)


def test_a_large_file_is_refused_before_it_is_parsed(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("# comment\n" * 300_000)
    with pytest.raises(ValueError, match=r"has 3000000 bytes, and .* at most 2000000"):
        read_config(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("assignment", "message"), ASSIGNMENTS)
def test_assignments(assignment, message):
    with pytest.raises(ValueError) as caught:
        read_config(None, [assignment])
    text = str(caught.value)
    assert message in text
    assert len(text) < 400
    assert "\n" not in text


def test_anchors_still_work(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("training: {steps: &n 300, save_every: *n}")
    assert read_config(path).training.save_every == 300


def test_powers_of_ten_are_whole_numbers():
    assert read_config(None, ["training.save_every=1e4"]).training.save_every == 10_000
    assert read_config(None, ["training.batch_size=1.28e2"]).training.batch_size == 128
    with pytest.raises(ValueError, match=r"training\.save_every"):
        read_config(None, ["training.save_every=1.5e0"])


def test_names_of_other_programs_lead_to_ours():
    def leaves(section, prefix=""):
        for name, field in section.model_fields.items():
            yield prefix + name
            if hasattr(field.annotation, "model_fields"):
                yield from leaves(field.annotation, f"{prefix}{name}.")

    known = set(leaves(Config))
    assert set(OTHER_NAMES.values()) <= known
    for section in ("model.", "training.", "diffusion.", ""):
        for theirs, ours in OTHER_NAMES.items():
            with pytest.raises(ValueError, match=f"did you mean '{ours}'"):
                read_config(None, [f"{section}{theirs}=1"])
