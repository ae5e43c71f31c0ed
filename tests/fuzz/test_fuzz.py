"""Hostile calls end with status 0, or with one sentence and nothing written."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import data_files
from tests.fuzz.__main__ import commands
from tests.fuzz.cases import Case, World, build_world, make
from tests.fuzz.judge import fault, fault_of_process, verdict

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
        if found := fault(case):
            faults[seed, ascii(case.name)[:200]] = found
    assert faults == {}


@pytest.mark.system
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


@pytest.mark.system
def test_a_few_cases_in_processes_of_their_own(world, tmp_path, monkeypatch):
    monkeypatch.setenv("IDDPM_CACHE", str(tmp_path))
    for seed, case in commands(COUNT, 6, world):
        assert fault_of_process(case) is None, (seed, ascii(case.name)[:200])


@pytest.mark.parametrize("kind", data_files.FILES)
def test_files_that_are_not_damaged_are_read(kind, tmp_path):
    """Else damage would not be what refuses them."""

    class Plain(random.Random):
        def random(self):
            return 1.0

    for name, content in data_files.FILES[kind].items():
        (tmp_path / name).write_bytes(content)
    data_files.opened(tmp_path, data_files.FILES[kind], Plain())()


@pytest.mark.parametrize(("found", "lines", "status"), [
    ("a traceback", ["Traceback (most recent call last):", "KeyError"], 1),
    ("a line of", ["x" * 600], 0),
    ("a control character", ["\x1b[31m"], 0),
    ("status 2 with 0 errors", [], 2),
    ("status 0 with 1 errors", ["error: no"], 0),
    ("status -11", [], -11),
    ("was made", ["error: no"], 2),
])  # fmt: skip
def test_what_is_wrong_is_found(found, lines, status, tmp_path):
    out = tmp_path if found == "was made" else None
    assert found in str(verdict(Case("", lambda: 0, out), status, lines))
