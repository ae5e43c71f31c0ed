"""What docs/observation.md says of the log is what the log holds."""

import re
from pathlib import Path

import pytest

import iddpm
from iddpm.config import read_config
from iddpm.training.monitoring.log_files import COLUMNS, read_log
from iddpm.training.monitoring.records import OWN
from iddpm.training.monitoring.terminal import SilentReporter

PAGE = Path(__file__).parents[1] / "docs" / "observation.md"


@pytest.fixture(scope="module")
def text():
    return PAGE.read_text(encoding="utf-8")


def documented(text):
    """Return the columns of the page's table; ``a0`` to ``a3`` stands for four."""
    names = []
    for first, last in re.findall(r"^\| `(\w+)`(?: to `(\w+)`)? \| [^|]*\| .+\|$", text, re.M):
        if last:
            stem, low, high = first[:-1], int(first[-1]), int(last[-1])
            names += [f"{stem}{k}" for k in range(low, high + 1)]
        else:
            names.append(first)
    return names


def test_every_column_is_explained_once(text):
    assert sorted(documented(text)) == sorted(COLUMNS)


def test_a_record_holds_nothing_else(tmp_path, array_file, tiny, text):
    iddpm.train(
        array_file,
        out=tmp_path / "run",
        settings=[*tiny, "training.steps=5", "training.validate_every=5", "data.held_out=0.2"],
        reporter=SilentReporter(),
    )
    (record,) = read_log(tmp_path / "run")
    later = {"compute_share", "near_copies"}
    assert record.keys() == set(documented(text)) - later
    assert set(OWN) <= set(documented(text))


def test_every_setting_that_is_named_exists(text):
    sections = read_config().model_dump()
    named = set(re.findall(r"\b(training|data)\.([a-z_]+)\b", text)) - {("training", "md")}
    assert len(named) > 8
    for section, name in named:
        assert name in sections[section], f"{section}.{name}"


def test_every_file_that_is_named_exists(text):
    root = PAGE.parents[1]
    for name in re.findall(r"`((?:tests|docs)/[\w/]+\.(?:py|md))`", text):
        assert (root / name).is_file(), name
