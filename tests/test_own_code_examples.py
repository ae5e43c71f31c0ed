"""The scripts in examples/ run, and stay short."""

import runpy
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = ("own_network", "own_data", "own_loss", "own_loop")


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs_and_is_short(name, tmp_path, monkeypatch):
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 50
    out = tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(script), str(out), "1"])
    runpy.run_path(str(script), run_name="__main__")
    assert any(out.parent.glob("run*"))
