"""``pytest -p tests.each_alone``: every test builds its own fixtures, as if it ran alone.

Processes that share a suite take tests from each other, so a test must not need what a fixture it
does not ask for has made. Of a test with parameters the first is run, and only of files whose
fixtures outlive a test.
"""

import re
from pathlib import Path
from typing import Any

import pytest

SHARED = re.compile(r'scope="(module|package|session)"')


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the first of each test's parameters, in files with shared fixtures."""
    shared: dict[Path, bool] = {}
    kept, left, seen = [], [], set()
    for item in items:
        name = item.nodeid.partition("[")[0]
        if item.path not in shared:
            shared[item.path] = bool(SHARED.search(item.path.read_text(encoding="utf-8")))
        (left if name in seen or not shared[item.path] else kept).append(item)
        seen.add(name)
    items[:] = kept
    config.hook.pytest_deselected(items=left)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: Any) -> bool:
    """Run a test as if none came after it, which ends all fixtures."""
    from _pytest.runner import runtestprotocol

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=None)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
