"""The table of formats in docs/formats.md, held against the code, the extras and the tests."""

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

from iddpm.data.formats import FORMATS
from iddpm.data.sources.picture import SUFFIXES

ROOT = Path(__file__).parents[3]
HEAD = "| format | read | labels | written | library | test |"
ELSEWHERE = {".tar", ".parquet", ".arrow", ".zip"}
"""Read by readers that `iddpm.data.sources.open` knows beside the table of formats."""


class Row(NamedTuple):
    """A row, cell by cell."""

    format: str
    read: str
    labels: str
    written: str
    library: str
    test: str


def rows() -> list[Row]:
    lines = (ROOT / "docs/formats.md").read_text(encoding="utf-8").splitlines()
    found = []
    for line in lines[lines.index(HEAD) + 2 :]:
        if not line.startswith("|"):
            break
        found.append(Row(*(cell.strip() for cell in line.strip("|").split("|"))))
    return found


def test_every_suffix_that_is_read_has_one_row_and_no_other_has():
    named = [suffix for row in rows() for suffix in re.findall(r"`([.-][a-z0-9.]+)`", row.read)]
    known = SUFFIXES | ELSEWHERE | {suffix for each in FORMATS for suffix in each.suffixes}
    assert sorted(named) == sorted(known)


def test_every_extra_can_be_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = {name for row in rows() for name in re.findall(r"\(`([a-z0-9]+)`\)", row.library)}
    assert named <= set(extras)
    dev = re.findall(r"iddpm\[(.*?)\]", "".join(extras["dev"]))
    assert named <= set(",".join(dev).split(","))  # or no test could run


def test_every_row_names_a_test_that_is_about_its_format():
    for row in rows():
        (name,) = re.findall(r"`(test_[a-z_0-9]+\.py)`", row.test)
        path = next((ROOT / "tests").rglob(name))
        text = path.read_text(encoding="utf-8")
        text += "".join(p.read_text(encoding="utf-8") for p in path.parent.glob("features*.py"))
        words = [row.format, *re.findall(r"`\.([a-z0-9.]+)`", row.read)]
        assert any(word in text for word in words), row
        assert re.search(r"^def test_", path.read_text(encoding="utf-8"), re.MULTILINE)
