"""``python -m tests.ui.screens RUNS RUN OUT [NAMES]``: pictures of the pages, all or some.

Those of a volume and of upscaling are of the first run of each kind below RUNS, if there is one.
"""

import io
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from PIL import Image
from playwright.sync_api import Page, TimeoutError, sync_playwright

from iddpm.ui.run_index import RunIndex
from iddpm.ui.sample_sets import has_items, kind_of, list_sets
from tests.ui.served import CHROMIUM, served


class Shot(NamedTuple):
    """A picture: its file, the page, and how the browser shows it."""

    file: str
    page: str
    theme: str = "light"
    width: int = 1400
    language: str = "en"


SHOTS = (
    Shot("runs", "runs"),
    Shot("run", "run"),
    Shot("sample", "sample"),
    Shot("item", "item", "dark"),
    Shot("nearest", "nearest"),
    Shot("edit", "edit"),
    Shot("measure", "measure"),
    Shot("train", "train"),
    Shot("upscale", "upscale"),
    Shot("volume", "volume"),
    Shot("sample_zh", "sample", language="zh-CN"),
    Shot("edit_dark", "edit", "dark"),
    Shot("run_dark_400", "run", "dark", 400),
    Shot("sample_dark_400", "sample", "dark", 400),
    Shot("queue", "queue"),
)
HEIGHT = 900
COLORS = 128
"""Of the files, to keep them small."""
LONGEST = 150_000
"""Bytes of a file."""


class Pages:
    """The pages of a server, each shown until all of it is there.

    Args:
        page: of the browser.
        base: the address of the server.
        runs: the directory.
        run: the run that most pages show.
    """

    def __init__(self, page: Page, base: str, runs: Path, run: str) -> None:
        self.page, self.base, self.runs, self.run = page, base, runs, run
        self.index = RunIndex(runs)

    def show(self, name: str) -> bool:
        """Show a page; False if there is no run for it."""
        shown: Callable[[], bool] | None = getattr(self, f"_{name}", None)
        if shown is None:
            self._go(f"/{name}?run={self.run}")
        elif not shown():
            return False
        self._wait_for_pictures()
        return True

    def _go(self, path: str) -> bool:
        self.page.goto(self.base + path)
        return True

    def _wait_for_pictures(self) -> None:
        there = "[...document.images].every(i => i.complete || i.loading == 'lazy' || i.hidden)"
        while not self.page.evaluate(there):  # wait_for_function would need the page to allow eval
            self.page.wait_for_timeout(50)

    def _first(
        self, kind: str, tasks: tuple[str, ...] = ("generation", "super_resolution")
    ) -> str | None:
        """Return the first run of a kind of data."""
        for name in self.index.names():
            facts = self.index.facts(name)
            config = facts.config
            if config is not None and config.task in tasks and kind_of(config) == kind:
                return name
        return None

    def _runs(self) -> bool:
        return self._go("/")

    def _train(self) -> bool:
        self._go("/train")
        self.page.locator("#data").fill("mnist5k")
        self.page.locator("#name").fill("digits")
        self.page.locator("button[hx-post='/train/look']").click()
        self.page.wait_for_selector("#result img.preview", timeout=0)
        self.page.evaluate("scrollTo(0, 0)")
        return True

    def _measure(self) -> bool:
        self._go(f"/measure?run={self.run}")
        self.page.locator("#table-title").evaluate("part => part.scrollIntoView()")
        return True

    def _run(self) -> bool:
        self._go(f"/run?run={self.run}")
        self.page.wait_for_selector(".uplot canvas")
        return True

    def _sample(self, run: str | None = None) -> bool:
        """Show the newest samples of a run that have items."""
        run = run or self.run
        sets = [each.name for each in list_sets(self.index.path(run)) if has_items(each)]
        if not sets:
            return False
        self._go(f"/sample?run={quote(run)}&samples={quote(sets[0])}")
        self.page.wait_for_selector(".items img")
        return True

    def _item(self, run: str | None = None) -> bool:
        if not self._sample(run):
            return False
        self.page.locator(".item").first.click()
        self.page.wait_for_selector("dialog[open]")
        return True

    def _nearest(self) -> bool:
        if not self._item():
            return False
        self.page.locator("dialog form[hx-post='/item/nearest'] button").click()
        self.page.wait_for_selector("dialog .job.done img", timeout=0)
        self.page.locator("dialog .job").scroll_into_view_if_needed()
        return True

    def _edit(self) -> bool:
        self._go(f"/edit?run={self.run}")
        self.page.wait_for_selector("#painter:not([aria-busy])", timeout=0)
        self.page.locator("#preset").select_option("bottom")
        return True

    def _volume(self) -> bool:
        run = self._first("volume")
        if run is None or not self._item(run):
            return False
        self.page.wait_for_selector("dialog[open] canvas[data-axis='2']")
        return True

    def _upscale(self) -> bool:
        run = self._first("picture", ("super_resolution",))
        if run is None:
            return False
        self._go(f"/upscale?run={quote(run)}")
        config = self.index.facts(run).config
        mode = "L" if config is not None and config.model.channels == 1 else "RGB"
        small = next((self.runs / self.run).glob("samples/*/grid.png"))
        file = io.BytesIO()
        Image.open(small).convert(mode).crop((0, 0, 92, 92)).save(file, "PNG")
        sent = {"name": "small.png", "mimeType": "image/png", "buffer": file.getvalue()}
        with self.page.expect_response(re.compile("/upload.name=")):
            self.page.locator("#file").set_input_files([sent])
        self.page.locator("#steps").fill("10")
        self.page.locator("#upscale-form button.primary").click()
        self.page.wait_for_selector("#compare[data-shown], .job.failed", timeout=0)
        return True

    def _queue(self) -> bool:
        """Show the jobs of the other pages, and one that runs before another one."""
        self._go(f"/measure?run={self.run}")
        for form in ("#likelihood-form", "#evaluate-form"):
            self.page.locator(f"{form} button").click()
        self._go("/queue")
        with suppress(TimeoutError):  # on a fast machine it has ended
            self.page.wait_for_selector(".job-row .state.running", timeout=30_000)
        return True


def save(page: Page, path: Path) -> None:
    """Write a picture of what the browser shows, with few colors.

    Raises:
        ValueError: the file is larger than a document should load.
    """
    page.screenshot(path=path)
    Image.open(path).convert("RGB").quantize(COLORS).save(path, optimize=True)
    if path.stat().st_size > LONGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: more than {LONGEST}")


def main(runs: str, run: str, out: str, *names: str) -> None:
    """Take all pictures, or those of some names."""
    Path(out).mkdir(parents=True, exist_ok=True)
    with served(Path(runs)) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for shot in SHOTS:
            if names and shot.file not in names:
                continue
            context = browser.new_context(
                viewport={"width": shot.width, "height": HEIGHT},
                color_scheme=shot.theme,
                locale=shot.language,
            )
            page = context.new_page()
            page.goto(url)
            if Pages(page, url.partition("/?")[0], Path(runs), run).show(shot.page):
                save(page, Path(out) / f"{shot.file}.png")
            else:
                print(f"{shot.file}: there is no run with samples for it below {runs}")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
