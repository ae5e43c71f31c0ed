import json

import numpy as np
import pytest

from iddpm.builders import attach_conditions, conditions_of, resolve
from iddpm.config import read_config
from iddpm.data.sources.open import open_source
from tests.conftest import TINY, images

COUNT = 60


def found(folder, table, *settings, train=range(COUNT - 1)):
    """Tell what is known of 60 pictures, all but the last to train on."""
    np.save(folder / "a.npy", images(COUNT))
    if isinstance(table, dict):
        names, rows = list(table), zip(*table.values(), strict=True)
        lines = [",".join(["row", *names])]
        lines += [",".join([str(n), *map(str, row)]) for n, row in enumerate(rows)]
        (folder / "t.csv").write_text("\n".join(lines))
    config = read_config(
        None, [*TINY, f"data.path={folder / 'a.npy'}", "data.conditions=t.csv", *settings]
    )
    source = open_source(folder / "a.npy")
    return attach_conditions(config, source, np.array(train)), source


AGES = [20 + k for k in range(COUNT - 1)] + [999]  # the last is held out
SEXES = ["fm"[k % 2] for k in range(COUNT)]


def test_what_is_found_is_written_down_and_kept(tmp_path):
    config, source = found(tmp_path, {"age": AGES, "sex": SEXES})
    age, sex = config.model.conditions.values()
    assert (age.kind, age.range) == ("number", (20, 78))  # of the training items alone
    assert (sex.kind, sex.names) == ("class", ("f", "m"))
    assert source.conditions.dtype == np.float32
    np.testing.assert_allclose(source.conditions[[0, 29, 58], 0], [-1, 0, 1])
    np.testing.assert_array_equal(source.conditions[:, 1], np.arange(COUNT) % 2)
    assert list(map(str, conditions_of(config))) == ["age (20 to 78)", "sex (f, m)"]
    resolved = resolve(config, source, COUNT - 1)
    assert resolved.model.conditions == config.model.conditions
    # With other items to train on, what a run has written down stays.
    again = source.conditions
    config, source = found(
        tmp_path, None, f"model.conditions={age_and_sex(resolved)}", train=range(5)
    )
    assert config.model.conditions == resolved.model.conditions
    np.testing.assert_array_equal(source.conditions, again)


def age_and_sex(config):
    return json.dumps({name: c.model_dump() for name, c in config.model.conditions.items()})


def test_settings_name_the_columns_to_use_and_say_what_they_are(tmp_path):
    table = {"age": AGES, "sex": SEXES, "degrees": AGES, "note": [f"n{k}" for k in range(COUNT)]}
    chosen = "model.conditions={degrees: {period: 360}, age: {range: [0, 100]}}"
    config, source = found(tmp_path, table, chosen, "model.conditions.sex.kind=class")
    assert list(config.model.conditions) == ["degrees", "age", "sex"]
    np.testing.assert_allclose(source.conditions[1], [21 / 360, -0.58, 1], rtol=1e-6)
    assert source.conditions[-1, 0] == pytest.approx(279 / 360)
    config, source = found(tmp_path, table, "model.conditions.age.kind=class")
    assert len(config.model.conditions["age"].names) == COUNT
    assert source.conditions[-1, 0] == COUNT - 1


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (
            {"a": ["1", "?"] * 30},
            (),
            r"a holds numbers and also '\?': leave cells of",
        ),
        ({"a": ["", "nan"] * 30}, (), "a is unknown for every item: leave it out"),
        ({"a": ["7", ""] * 30}, (), "a holds only the number 7"),
        ({"a": ["", *["x"] * 58, "3"]}, (), "a holds numbers and also 'x'"),
        ({"a": ["", ""] * 29 + ["", "3"]}, (), "a holds nothing for all training items"),
        (
            {"a": [f"n{k}" for k in range(COUNT)], "b": AGES},
            (),
            r"60 different words .* such as -s 'model\.conditions=\{b: \{\}\}'",
        ),
        ({"a": AGES}, ("model.conditions.b.period=3",), "has no column b; it has a"),
        (
            {"a": SEXES},
            ("model.conditions.a={kind: class, names: [f]}",),
            r"t\.csv, 1: a=m is none of its 1 words: f",
        ),
        ({"a": AGES}, ("data.conditions=null", "model.conditions.a.period=3"), "data.conditions"),
    ],
)
def test_columns_that_do_not_work_say_why(tmp_path, table, settings, message):
    with pytest.raises(ValueError, match=message):
        found(tmp_path, table, *settings)


def test_without_data_conditions_must_be_stated_whole():
    settings = [*TINY, "model.channels=1", "model.size=[8]"]
    with pytest.raises(ValueError, match=r"model\.conditions\.age must set its kind"):
        resolve(read_config(None, [*settings, "model.conditions.age.kind=number"]))
    assert resolve(read_config(None, [*settings, "model.conditions.age={kind: number, period: 3}"]))
