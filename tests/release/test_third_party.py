"""The list of others' packages is complete, with versions and licenses."""

import shutil

import pytest

from release import third_party
from release.third_party import LIST, VENDORED, listing, packages, scripts, unknown

AGAIN = "run python -m release.third_party"


def rows(text):
    return {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if "| " in line}


def test_the_list_is_complete_and_current():
    kept, now = rows(LIST.read_text(encoding="utf-8")), rows(listing())
    assert kept.keys() == now.keys(), AGAIN
    versions = {name: (line.split(" | ")[1], now[name].split(" | ")[1])
                for name, line in kept.items()}  # fmt: skip
    assert [name for name, (old, new) in versions.items() if old != new] == [], AGAIN
    assert unknown() == []


def test_direct_and_indirect_packages_are_found():
    found = {p.name: p.brought_by for p in packages()}
    assert found["torch"] == found["sympy"] == "iddpm"  # sympy by torch
    assert found["starlette"] == found["fastapi"] == "ui"
    assert "pytest" not in found
    assert "sphinx" not in found


@pytest.mark.parametrize("fault", ["license", "version"])
def test_javascript_without_a_known_license_or_version_is_named(fault, tmp_path, monkeypatch):
    shutil.copytree(VENDORED["iddpm"], tmp_path / "vendor")
    monkeypatch.setattr(third_party, "VENDORED", {"iddpm": tmp_path / "vendor"})
    assert {script.name for script in scripts()} == {"htmx", "uplot"}
    changed = tmp_path / "vendor/htmx" / ("LICENSE" if fault == "license" else "htmx.min.js")
    changed.write_text("nothing is said")
    assert unknown() == ["htmx"]
