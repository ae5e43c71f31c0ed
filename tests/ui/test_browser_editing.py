"""Editing in a real browser: masks by keys, by numbers and by a file; before and after."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import iddpm
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images, wait_until
from tests.ui.browser import accessibility_faults, watched_page
from tests.ui.served import CHROMIUM, served

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def address(signal_and_volume, tmp_path_factory):
    runs = tmp_path_factory.mktemp("masks") / "runs"
    shutil.copytree(signal_and_volume, runs)
    np.save(runs.parent / "x.npy", images(24))
    iddpm.train(
        runs.parent / "x.npy",
        out=runs / "finer",
        reporter=SilentReporter(),
        settings=[*TINY, "training.steps=1", "task=super_resolution", "scale=2"],
    )
    with served(runs) as url:
        yield url, runs


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_a_mask_is_given_by_keys_by_numbers_and_by_a_file(address, tmp_path):
    url, runs = address
    base = url.partition("/?")[0]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        with watched_page(browser, url) as page:
            _pictures(page, base, runs, tmp_path)
            _others(page, base)
            _upscaled(page, base, tmp_path / "small.png")
        browser.close()


@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_a_file_that_is_chosen_before_the_script_has_loaded_is_sent(address, tmp_path):
    base = address[0].partition("/?")[0]
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8), np.float32))
    sent = re.compile("^upload/.*x.npy$")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        with watched_page(browser, address[0]) as page:
            held = []
            page.route("**/static/app.js", lambda route: held.append(route))
            for path, field, kept in (
                ("/train", "#file", "#data"),
                ("/upscale", "#file", "#sent-file"),
                ("/measure?run=pictures", "#drop-generated", "#generated"),
                ("/edit?run=pictures", "input[data-upload=mask]", "#mask-name"),
                ("/edit?run=pictures", "#file", "#edit-form [name=item]"),
            ):
                page.goto(base + path, wait_until="commit")
                page.locator(field).set_input_files(tmp_path / "x.npy")
                while not held:
                    page.wait_for_timeout(20)
                held.pop().continue_()
                if kept.endswith("[name=item]"):
                    page.unroute("**/static/app.js")  # the page opens again, with the item
                expect(page.locator(kept)).to_have_value(sent)
        browser.close()


def _pictures(page, base, runs, folder):
    page.goto(f"{base}/edit?run=pictures&item=0")
    canvas, number = page.locator("#painter canvas"), page.get_by_label("Network evaluations")
    expect(canvas).to_have_attribute("width", "8")
    page.get_by_label("Brush").fill("1")
    number.fill("4")
    page.get_by_text("The same from a shell or from Python").click()
    expect(page.locator(".commands pre").first).to_contain_text("--mask mask.npy --resample 1")
    canvas.focus()
    for key in ("ArrowLeft", "ArrowUp", "Space"):
        page.keyboard.press(key)
    page.get_by_role("button", name="Draw versions").click()
    _compare(page)
    assert 1 <= _newest_mask(runs).sum() <= 5

    page.get_by_role("button", name="Clear").click()
    page.get_by_text("Mark a rectangle by numbers").click()
    page.get_by_label("Rows: from").fill("2")
    page.get_by_label("Rows: to").fill("3")
    page.get_by_label("Positions: to").fill("4")
    page.get_by_role("button", name="Mark it").click()
    assert accessibility_faults(page) == []
    with page.expect_response(re.compile("/upload.name=mask.npy")):
        page.get_by_role("button", name="Draw versions").click()
    wanted = np.zeros((8, 8), np.uint8)
    wanted[2:4, :5] = 1
    _compare(page)
    np.testing.assert_array_equal(_newest_mask(runs), wanted)

    page.get_by_role("button", name="Clear").click()
    np.save(folder / "mine.npy", 1 - wanted)
    page.get_by_text("Mask from a file").click()
    page.get_by_label("Mask from a file").set_input_files(folder / "mine.npy")
    expect(page.locator(".commands pre").first).to_contain_text("/mine.npy")


def _newest_mask(runs):
    sent = (runs / ".uploads").rglob("mask.npy")
    return np.load(max(sent, key=lambda path: path.stat().st_mtime_ns))


def _compare(page):
    part = page.locator("#compare")
    expect(part).to_have_attribute("data-shown", "0")
    page.get_by_label("Version", exact=True).select_option("2")
    expect(part).to_have_attribute("data-shown", "2")
    divider = page.get_by_label("Divider")
    divider.fill("30")
    clip = part.locator("canvas").last.evaluate("canvas => canvas.style.clipPath")
    assert clip == "inset(0px 0px 0px 30%)"
    both = [c.evaluate("canvas => canvas.toDataURL()") for c in part.locator("canvas").all()]
    assert both[0] != both[1]
    part.evaluate("part => delete part.dataset.shown")


def _others(page, base):
    for run, fields, width in (("signals", "x", "960"), ("volumes", "dyx", "8")):
        page.goto(f"{base}/edit?run={run}&item=0")
        expect(page.locator("#painter canvas")).to_have_attribute("width", width)
        assert page.locator("input[id^=box-]").count() == 2 * len(fields)
        page.locator("#preset").select_option("left")
        page.get_by_label("Network evaluations").fill("3")
        page.get_by_role("button", name="Draw versions").click()
        _compare(page)
        assert accessibility_faults(page) == []


def _upscaled(page, base, path):
    Image.fromarray(images(1, 6)[0, ..., 0]).save(path)
    page.goto(f"{base}/upscale")
    page.locator("#file").set_input_files(path)
    expect(page.locator("#sent-file")).to_have_value(re.compile("small.png$"))
    page.get_by_label("Network evaluations").fill("2")
    held = []

    def hold(route):
        """Deliver what was true while the job ran when it has ended."""
        answer = route.fetch()
        if not held:
            held.append(answer.text())
            wait_until(lambda: 'data-state="done"' in page.request.get(route.request.url).text())
        route.fulfill(response=answer)

    page.route("**/job?number=*", hold)
    page.locator("#upscale-form button.primary").click()
    part = page.locator("#compare")
    expect(part).to_have_attribute("data-shown", "0")
    page.unroute("**/job?number=*")
    assert held  # on a quick machine it has ended before
    widths = [c.evaluate("canvas => canvas.width") for c in part.locator("canvas").all()]
    assert widths == [6, 12]
    assert accessibility_faults(page) == []
