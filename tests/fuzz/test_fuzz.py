"""Hostile calls end with status 0, or with one sentence and nothing written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.cases import World, build_world, fault, make

COUNT, CHUNK = 2000, 100
"""Of them in CI; ``make fuzz`` runs 20,000."""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return build_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("first", range(0, COUNT, CHUNK))
def test_in_one_process(first, world):
    faults = {}
    for seed in range(first, first + CHUNK):
        case = make(seed, world)
        if found := fault(case, seconds=60):  # the machine may be busy with other things
            faults[seed, ascii(case.name)[:200]] = found
    assert faults == {}


@pytest.mark.parametrize("arguments", [
    ["train", "DATA", "-s", "batch-size=8"],
    ["train", "DATA", "-s", "data=&a {x: *a}"],
    ["train", "DATA", "-c", "NONE"],
    ["sample", "RUN", "--threads", "0"],
    ["sample", "RUN", "--class", "x" * 5000],
    ["edit", "RUN", "0", "-n", "1" + "0" * 20],
    ["info", "NONE"],
    ["data", "inspect", "RUN"],
])  # fmt: skip
def test_in_processes_of_their_own(arguments, world: World, tmp_path: Path):
    names = {"DATA": str(world.data), "RUN": str(world.trained), "NONE": str(tmp_path / "none")}
    words = [names.get(word, word) for word in arguments]
    result = subprocess.run(
        [sys.executable, "-m", "iddpm", *words],
        env=os.environ | {"IDDPM_CACHE": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert [line[:7] for line in result.stderr.splitlines()] == ["error: "]
    assert list(tmp_path.iterdir()) == []
