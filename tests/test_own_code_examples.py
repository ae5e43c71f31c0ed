"""The scripts in examples/ run, and stay short."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = ("own_network", "own_data", "own_loss", "own_loop")


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_runs_and_is_short(name, tmp_path):
    script = EXAMPLES / f"{name}.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) < 50
    out = tmp_path / "run"
    subprocess.run(
        [sys.executable, str(script), str(out), "1"], check=True, capture_output=True, cwd=tmp_path
    )
    assert any(out.parent.glob("run*"))
