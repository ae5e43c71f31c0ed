"""docs/migrating.md and docs/exporting.md name every published flag, and settings that exist."""

import re
from pathlib import Path

import pytest

from iddpm.config import Config
from iddpm.config.validation_message import _all_keys
from iddpm.interop import published_flags
from iddpm.interop.published_settings import WITHOUT_COUNTERPART

DOCS = Path(__file__).parents[1] / "docs"
KEYS = set(_all_keys(Config))
SECTIONS = {key.partition(".")[0] for key in KEYS if "." in key} | {"degradation"}


@pytest.mark.parametrize("page", ["migrating.md", "exporting.md"])
def test_every_setting_that_a_page_names_exists(page):
    named = re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)", (DOCS / page).read_text())
    settings = {name for name in named if name.partition(".")[0] in SECTIONS}
    assert len(settings) > 10
    assert settings <= KEYS | {"diffusion.loss", "model.safetensors"}


def test_the_page_has_every_flag():
    page = (DOCS / "migrating.md").read_text().partition("## denoising-diffusion-pytorch")[0]
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ")]
    documented = set(re.findall(r"`(\w+)`", " ".join(rows)))
    known = {name for table in published_flags._KNOWN.values() for name in table}
    assert documented == known
    assert set(WITHOUT_COUNTERPART) <= known
