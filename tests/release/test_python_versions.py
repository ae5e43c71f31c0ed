"""The classifiers name the versions of Python that were tested or checked."""

import tomllib

from release.distributions import ROOT
from release.python_versions import REPORT, passed

HEAD = "| Python | types | wheels of iddpm | extras | without |\n|---|---|---|---|---|\n"


def test_classifiers_follow_from_the_report():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    language = "Programming Language :: Python :: 3."
    named = [c for c in project["classifiers"] if c.startswith(language)]
    checked = passed(REPORT.read_text(encoding="utf-8"))
    assert named == [language + version[2:] for version in ("3.11", *checked)]


def test_a_version_with_errors_or_without_wheels_has_not_passed():
    good = "| 3.12 | no errors | 27 packages, torch 2.8.0 | 19 extras | none |\n"
    untyped = "| 3.13 | Found 2 errors in 1 file | 27 packages | 19 extras | none |\n"
    alone = "| 3.14 | no errors | none: no wheels of torch | - | - |\n"
    assert passed(HEAD + good + untyped + alone) == ["3.12"]
