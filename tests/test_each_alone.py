"""The plug-in of `make test-alone` shows a test that needs what another one's fixture makes."""

import shutil
import subprocess
import sys
from pathlib import Path

PLUGIN = Path(__file__).with_name("each_alone.py")
SUITE = """import pytest

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("x")

@pytest.fixture(scope="module")
def made(folder):
    (folder / "file").touch()

@pytest.mark.parametrize("number", [1, 2])
def test_first(made, folder, number):
    assert (folder / "file").exists()

def test_second(folder):
    assert (folder / "file").exists()
"""


def test_a_test_that_needs_the_fixture_of_another_fails(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/test_a.py").write_text(SUITE)
    (tmp_path / "tests/test_b.py").write_text("def test_alone_anyway():\n    pass\n")
    shutil.copy(PLUGIN, tmp_path / "tests/each_alone.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-p", "tests.each_alone"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed, 2 deselected" in done.stdout, done.stdout
    assert "FAILED tests/test_a.py::test_second" in done.stdout
