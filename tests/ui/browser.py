"""A real browser for tests: every request, console message and accessibility fault is looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

expect.set_options(timeout=120_000)  # only a hang takes so long
AXE = (Path(__file__).parent / "vendor" / "axe-core" / "axe.min.js").read_text()


@contextmanager
def watched_page(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """Open the server's address in a fresh profile; fail on what no page may do.

    That is a request to another host, an error on the console, an exception of a script, or an
    answer that is a fault.
    """
    context = browser.new_context(**({"viewport": {"width": 1400, "height": 900}} | options))
    context.set_default_timeout(120_000)
    page, faults = context.new_page(), []
    host = urlsplit(url).netloc
    page.on(
        "request",
        lambda r: urlsplit(r.url).netloc not in (host, "") and faults.append(f"asked {r.url}"),
    )
    page.on("console", lambda m: m.type in ("error", "warning") and faults.append(m.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("response", lambda r: r.status >= 400 and faults.append(f"{r.status} of {r.url}"))
    page.goto(url)
    yield page
    context.close()
    assert faults == [], faults


def accessibility_faults(page: Page) -> list[str]:
    """Return the serious faults that axe-core finds in a page."""
    if not page.evaluate("typeof axe !== 'undefined'"):
        page.evaluate(AXE)
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{fault['id']}: {node['html']} {node['failureSummary']}"
        for fault in found
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
