"""A built wheel has all files of the package, its version, types and licenses."""

import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import iddpm
from release.distributions import ROOT, package_version, wheel_faults


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    (path,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path_factory.mktemp("dist")))
    return Path(path)


def test_a_wheel_of_this_tree_is_whole(wheel):
    assert package_version() == iddpm.__version__
    assert wheel_faults(wheel, ROOT / "src/iddpm", iddpm.__version__) == []


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("iddpm/py.typed", "iddpm/py.typed is missing"),
        ("iddpm/ui/templates/base.html", "iddpm/ui/templates/base.html is missing"),
        ("LICENSE", "licenses/LICENSE is missing"),
        ("vendor/htmx/LICENSE", "licenses/src/iddpm/ui/static/vendor/htmx/LICENSE is missing"),
    ],
)
def test_a_missing_file_is_named(wheel, tmp_path, lost, said):
    broken = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(broken, "w") as part:
        for name in whole.namelist():
            if not name.endswith(lost):
                part.writestr(name, whole.read(name))
        part.writestr("tests/test_a.py", "")
    faults = " ".join(wheel_faults(broken, ROOT / "src/iddpm", iddpm.__version__))
    assert said in faults
    assert "tests/test_a.py does not belong there" in faults
