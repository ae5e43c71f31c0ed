"""Files that promise far more than they are take neither memory nor time, and are refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.huge import FINE, NAMES

ROOT = Path(__file__).parents[2]
MOST = 40
"""MiB by which a file may raise the peak of the process; what the bombs hold is 128."""

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc and in KiB"),
]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What each command said of each file, in one process of its own."""
    folder = tmp_path_factory.mktemp("huge")
    result = subprocess.run(
        [sys.executable, "-m", "tests.cli.huge", str(folder)],
        cwd=ROOT,
        env={**os.environ, "IDDPM_CACHE": str(folder / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    return {(line["name"], line["command"]): line for line in lines}


@pytest.mark.parametrize("command", ["data", "train"])
@pytest.mark.parametrize("name", NAMES)
def test_it_is_refused_in_one_sentence_and_takes_no_memory(outcomes, name, command):
    facts = outcomes[name, command]
    assert facts["grown"] < MOST
    if name in FINE:
        assert facts["status"] == 0, facts["said"]
        return
    assert facts["status"] == 2, facts["said"]
    assert facts["said"].startswith("error: ")
    assert facts["said"].count("\n") == 1
    assert not facts["left"]
