"""A program that uses every public name, and misuses some, is what type checkers expect."""

import subprocess
import sys
from pathlib import Path

import pytest

import iddpm

DOWNSTREAM = Path(__file__).with_name("downstream.py")


def test_the_program_uses_every_public_name():
    text = DOWNSTREAM.read_text(encoding="utf-8")
    assert [name for name in iddpm.__all__ if f"iddpm.{name}" not in text] == []


@pytest.mark.slow  # mypy reads the package
def test_wrong_uses_and_only_they_fail_a_strict_type_check(tmp_path):
    (tmp_path / "downstream.py").write_text(DOWNSTREAM.read_text(encoding="utf-8"))
    (tmp_path / "mypy.ini").write_text(
        "[mypy]\nstrict = true\n[mypy-iddpm.*]\nignore_errors = true\n"
    )
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path / "cache"), "downstream.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(Path(iddpm.__file__).parents[1]), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
