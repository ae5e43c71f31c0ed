"""``python -m tests.ui.screens RUNS RUN OUT``: pictures of every page, in two themes and widths."""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.ui.served import CHROMIUM, served

SIZES = {"wide": (1400, 900), "phone": (400, 860)}


def take(page: Page, base: str, run: str, out: Path, mark: str) -> None:
    """Write one picture of each page."""
    pages = {
        "runs": "/",
        "run": f"/run?run={run}",
        "sample": f"/sample?run={run}",
        "queue": "/queue",
    }
    for name, path in pages.items():
        page.goto(base + path)
        page.wait_for_load_state("load")
        if name == "run":
            page.wait_for_selector(".uplot canvas")
        if name == "sample":
            newest = page.locator(".sets a").first
            if newest.count():
                newest.click()
                page.wait_for_selector(".items img")
        page.wait_for_function("[...document.images].every(i => i.complete || i.loading == 'lazy')")
        page.screenshot(path=out / f"{name}_{mark}.png", full_page=True)


def main(runs: str, run: str, out: str) -> None:
    """Take all pictures."""
    Path(out).mkdir(parents=True, exist_ok=True)
    with served(Path(runs)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for theme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=theme
                )
                page = context.new_page()
                page.goto(url)
                take(page, url.partition("/?")[0], run, Path(out), f"{theme}_{size}")
                context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
