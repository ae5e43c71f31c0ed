"""``pytest -p tests.every_file``: count the tests that ran per folder; fail where a file ran none.

Asked of the whole suite, so by the Makefile: the files come from the tree and not from pytest.
A file whose tests all have a marker that ``-m`` leaves to another target is named, and no fault.
With ``--count-only`` a file that ran none is no fault either: that is for a part of the suite.
"""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

TESTS = Path(__file__).parent
A_TEST = re.compile(r"^(async +)?def test_|^class Test", re.MULTILINE)
OTHER_TARGETS = {"slow", "system"}
"""Markers whose tests another target runs."""


def files_with_tests(root: Path) -> set[str]:
    """Return the files below a folder that define tests, whatever their names, from its parent."""
    return {
        path.relative_to(root.parent).as_posix()
        for path in root.rglob("*.py")
        if A_TEST.search(path.read_text(encoding="utf-8"))
    }


class EveryFile:
    """Notes which tests ran; with pytest-xdist, in the process that hears of all of them."""

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.left: set[str] = set()
        self.missed: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed or (report.when == "call" and not report.skipped):
            self.ran.add(report.nodeid)

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Note the files of tests that another target runs."""
        left = [item for item in items if OTHER_TARGETS & {m.name for m in item.iter_markers()}]
        self.left |= {item.nodeid.partition("::")[0] for item in left}

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """Take over what a process of pytest-xdist noted."""
        self.left |= set(node.workeroutput.get("left", ()))

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session):
        """Compare before the summary is printed, which is where the exit status is taken."""
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["left"] = sorted(self.left)
            return (yield)
        files = {name.partition("::")[0] for name in self.ran}
        if session.config.getoption("--count-only"):
            self.left.clear()
            return (yield)
        self.left -= files
        self.missed = sorted(files_with_tests(TESTS) - files - self.left)
        if self.missed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        folders = Counter(name.partition("::")[0].rpartition("/")[0] for name in self.ran)
        terminalreporter.section("tests per folder")
        for folder, count in sorted(folders.items()):
            terminalreporter.write_line(f"{count:6d}  {folder}")
        terminalreporter.write_line(f"{len(self.ran):6d}  in all")
        for name in sorted(self.left):
            terminalreporter.write_line(f"left to another target: {name}")
        for name in self.missed:
            terminalreporter.write_line(f"no test ran of {name}", red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--count-only", action="store_true", help="ask for no file that has tests")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(EveryFile(), "every-file")
