"""Every setting reaches what it is for: another value changes what is built or what comes out."""

import pytest

from tests.builders.settings.data_effects import DATA, FORM
from tests.builders.settings.distillation_effects import DISTILLATION
from tests.builders.settings.effect import leaves
from tests.builders.settings.network_effects import MODEL, SUPER, TOP
from tests.builders.settings.process_effects import DIFFUSION, RESOLUTION
from tests.builders.settings.sampling_effects import SAMPLING
from tests.builders.settings.training_effects import TRAINING

TABLES = (TOP, MODEL, SUPER, DIFFUSION, RESOLUTION, SAMPLING, TRAINING, DATA, FORM, DISTILLATION)
EFFECTS = [
    pytest.param(leaf, effect, id=leaf)
    for table in TABLES
    for leaf, effects in table.items()
    for effect in effects
]


@pytest.mark.parametrize(("leaf", "effect"), EFFECTS)
def test_another_value_changes_what_is_built_or_comes_out(leaf, effect, tmp_path, monkeypatch):
    effect.check(leaf, tmp_path, monkeypatch)


def test_no_setting_is_left_out():
    tested = {leaf for table in TABLES for leaf in table}
    assert sorted(leaves()) == sorted(tested)
