"""``python -m tests.ui.screens RUNS RUN OUT``: pictures of the pages, for docs and to look at."""

import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from tests.ui.served import CHROMIUM, served

SHOTS = (
    ("runs", "light", 1400),
    ("run", "light", 1400),
    ("sample", "light", 1400),
    ("item", "dark", 1400),
    ("edit", "light", 1400),
    ("measure", "light", 1400),
    ("train", "light", 1400),
    ("run", "dark", 400),
    ("sample", "dark", 400),
)
"""Page, theme and width in pixels; the first of a page has its name alone."""
HEIGHT = 900
COLORS = 128
"""Of the files, to keep them small."""


def show(page: Page, base: str, run: str, name: str) -> None:
    """Go to a page and wait until all of it is there."""
    own = {name: f"/{name}?run={run}" for name in ("run", "edit", "measure")}
    paths = {"runs": "/", "train": "/train", **own}
    page.goto(base + paths.get(name, f"/sample?run={run}"))
    if name == "run":
        page.wait_for_selector(".uplot canvas")
    if name == "edit":
        page.wait_for_selector("#painter:not([aria-busy])")
        page.locator("#preset").select_option("bottom")
    if name in ("sample", "item") and page.locator(".sets a").count():
        page.locator(".sets a").first.click()
        page.wait_for_selector(".items img, .preview")
        if name == "item" and page.locator(".item").count():
            page.locator(".item").first.click()
            page.wait_for_selector("dialog[open]")
    there = "[...document.images].every(i => i.complete || i.loading == 'lazy' || i.hidden)"
    while not page.evaluate(there):  # wait_for_function would need the page to allow eval
        page.wait_for_timeout(50)


def main(runs: str, run: str, out: str) -> None:
    """Take all pictures."""
    Path(out).mkdir(parents=True, exist_ok=True)
    with served(Path(runs)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for name, theme, width in SHOTS:
            size = {"width": width, "height": HEIGHT}
            context = browser.new_context(viewport=size, color_scheme=theme)
            page = context.new_page()
            page.goto(url)
            show(page, url.partition("/?")[0], run, name)
            mark = "" if width > 400 else f"_{theme}_{width}"
            path = Path(out) / f"{name}{mark}.png"
            page.screenshot(path=path)
            Image.open(path).convert("RGB").quantize(COLORS).save(path, optimize=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
