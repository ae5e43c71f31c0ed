"""Both catalogs have the same keys, and the templates use these and no others."""

import re
import string
from pathlib import Path
from typing import get_args

import pytest

import iddpm.ui
from iddpm.config.choices import OPERATORS
from iddpm.config.degradation import DegradationConfig
from iddpm.ui.actions.actions import ACTIONS
from iddpm.ui.job_queue import ENDED
from iddpm.ui.languages import (
    CATALOGS,
    LANGUAGES,
    catalog,
    choose_language,
    setting_helps,
    translate,
)
from iddpm.ui.measurements import MEASURES, TRIED, VERDICTS
from iddpm.ui.pages import PAGES
from iddpm.ui.pages.edit_page import KINDS
from iddpm.ui.pages.run_page import PLOTS
from iddpm.ui.pages.train_page import FIRST
from iddpm.ui.render import THEMES
from iddpm.ui.setting_fields import WHOLE, setting_fields, whole_fields

UI = Path(iddpm.ui.__file__).parent
USED = re.compile(r"""\bt\(\s*'([\w.]+)'\s*[,)]""")
FAMILIES = re.compile(r"""\bt\(\s*'([\w.]+\.)' ~""")
MEASURED = ("loss", "frechet")
STATES = ("training", "finished", "stopped", "failed", "new", "imported", "damaged", "starting")


def families():
    """Return the keys that templates put together."""
    return {
        "page.": [page.name for page in PAGES if page.in_menu],
        "theme.": THEMES,
        "state.": STATES,
        "commands.": ("resume", "info"),
        "task.": ("classification", "super_resolution"),
        "plot.": PLOTS,
        "series.": [c for columns in PLOTS.values() for c in columns if c != "held_out_loss"],
        "held_out.": MEASURED,
        "held_out.short.": MEASURED,
        "checkpoints.best.": MEASURED,
        "job.": ("waiting", "running", *ENDED),
        "job.kind.": ACTIONS,
        "measure.": ("likelihood", "evaluation", "comparison"),
        "measure.picture.": ("likelihood", "evaluation", "comparison"),
        "measured.": MEASURES,
        "upscale.degradation.": get_args(DegradationConfig.model_fields["kind"].annotation),
        "tune.": (*TRIED, "score"),
        "nearest.": VERDICTS,
        "edit.kind.": KINDS,
        "edit.not.": ("task", "paired", "distilled"),
        "edit.operator.": OPERATORS,
        "edit.box.": ("d", "y", "x"),
        "edit.preset.": ("top", "bottom", "left", "right", "center"),
    }


def test_the_catalogs_have_the_same_keys_and_fields():
    assert {path.stem for path in CATALOGS.glob("*.json")} == set(LANGUAGES)
    words = {code: catalog(code) for code in LANGUAGES}
    assert words["en"].keys() == words["zh"].keys()
    for key in words["en"]:
        fields = [
            {name for _, name, _, _ in string.Formatter().parse(text[key]) if name}
            for text in words.values()
        ]
        assert fields[0] == fields[1], key
        assert all(text[key].strip() for text in words.values())
    chinese = [key for key, text in words["zh"].items() if not re.search("[\u4e00-\u9fff]", text)]
    assert chinese == ["series.memory_mb"]
    for text in words.values():
        assert list(text) == sorted(text)


def test_the_templates_use_every_word_and_no_other():
    text = "\n".join(path.read_text() for path in (UI / "templates").glob("*.html"))
    used = set(USED.findall(text))
    assert set(FAMILIES.findall(text)) == set(families())
    for prefix, names in families().items():
        used |= {prefix + name for name in names}
    assert used == set(catalog("en"))


def test_settings_are_explained_in_chinese():
    """All of the form; where a translation is missing, the English text would be shown."""
    fields = [*whole_fields(), *(f for section in setting_fields().values() for f in section)]
    helps = setting_helps("zh")
    assert set(helps) == {field.name for field in fields}
    assert {*WHOLE, *FIRST} <= set(helps)
    assert all(re.search("[\u4e00-\u9fff]", text) for text in helps.values())
    assert not setting_helps("en")
    assert all("`" not in field.help for field in fields)


def test_a_word_that_is_missing_is_an_error():
    with pytest.raises(KeyError):
        translate("en", "no.such.key")
    assert translate("en", "step.of", step="{x}", steps=3) == "step {x} of 3"


@pytest.mark.parametrize(
    ("chosen", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        (None, "fr, en;q=0.5", "en"),
        ("zh", "en", "zh"),
        ("xx", "zh", "zh"),
        (None, "de", "en"),
        ("../en", "", "en"),
    ],
)
def test_the_language(chosen, accepted, language):
    assert choose_language(chosen, accepted) == language
