"""No test file is passed over in silence: the plug-in that `make test` counts by."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).with_name("every_file.py")
A_TEST = "def test_a():\n    pass\n"


@pytest.fixture
def suite(tmp_path):
    """A suite of three tests in folders that pytest passes over by itself."""
    options = "norecursedirs = .*\naddopts = -p no:cacheprovider --import-mode=importlib\n"
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{options}")
    for name in ("build/test_a.py", "build/test_b.py", "dist/deep/test_a.py"):
        write(tmp_path / "tests" / name, A_TEST)
    shutil.copy(PLUGIN, tmp_path / "tests/every_file.py")
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def counted(suite, *options):
    command = [sys.executable, "-m", "pytest", "-p", "tests.every_file", *options]
    done = subprocess.run(command, cwd=suite, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


@pytest.mark.system
def test_the_tests_of_each_folder_are_counted_over_all_processes(suite):
    status, said = counted(suite, "-n", "2")
    assert status == 0, said
    for line in ("     2  tests/build", "     1  tests/dist/deep", "     3  in all"):
        assert line in said
    assert "3 passed" in said[-1]


def test_a_file_of_which_no_test_ran_fails_the_whole(suite):
    skipped = "import pytest\npytest.skip('', allow_module_level=True)\n"
    missed = {
        "check_a.py": A_TEST.replace("def", "async def"),
        "deselected/test_a.py": A_TEST,
        "test_skipped.py": skipped + A_TEST,
        "tests_a.py": "class TestA:\n    def test_a(self):\n        pass\n",
        "venv.egg/test_a.py": A_TEST,
    }
    for name, text in missed.items():
        write(suite / "tests" / name, text)
    options = ["--ignore-glob=*.egg/*", "--deselect=tests/deselected"]
    status, said = counted(suite, "-p", "no:xdist", *options)
    assert status == 1, said
    assert [line for line in said if line.startswith("no test ran of")] == [
        f"no test ran of tests/{name}" for name in missed
    ]
    assert "3 passed" in said[-1]


@pytest.mark.system
@pytest.mark.parametrize("processes", [("-p", "no:xdist"), ("-n", "2")])
def test_a_file_whose_tests_another_target_runs_is_named(suite, processes):
    for marker in ("slow", "system"):
        text = f"import pytest\npytestmark = pytest.mark.{marker}\n" + A_TEST
        write(suite / f"tests/test_{marker}.py", text)
    status, said = counted(suite, *processes, "-m", "not slow and not system")
    assert status == 0, said
    for marker in ("slow", "system"):
        assert f"left to another target: tests/test_{marker}.py" in said


def test_a_part_of_the_suite_is_counted_only(suite):
    write(suite / "tests/test_system.py", "import pytest\n@pytest.mark.system\n" + A_TEST)
    status, said = counted(suite, "-p", "no:xdist", "--count-only", "-m", "system and not slow")
    assert status == 0, said
    assert "     1  in all" in said
    assert not [line for line in said if "tests/build" in line]
