"""From an empty directory to a model of digits, sampled, inpainted and compared by clicks."""

import json
import re

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from iddpm.data.embedded import embedded
from tests.conftest import TINY, wait_until
from tests.ui.browser import accessibility_faults, watched_page
from tests.ui.served import CHROMIUM, served

STEPS, FEWER = 150, 30
DIGITS = 300
"""Of those of scikit-learn: 8 x 8, ten classes."""


@pytest.mark.system
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_from_an_empty_directory_to_a_model_that_is_compared(tmp_path):
    digits = embedded("digits")
    assert digits.labels is not None
    x = np.moveaxis(digits.read_many(range(DIGITS)), 1, -1)
    np.savez(tmp_path / "digits.npz", arr_0=x, arr_1=digits.labels[:DIGITS])
    with served(tmp_path / "runs") as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        with watched_page(browser, url) as page:
            _train(page, tmp_path / "digits.npz")
            _sample(page)
            _inpaint(page, tmp_path / "runs/digits/samples/inpainting")
            _measure(page)
            _compare(page, tmp_path / "runs")
        browser.close()


def _train(page, data):
    page.get_by_role("main").get_by_role("link", name="Train", exact=True).click()
    page.get_by_label("Or drop one file").set_input_files(data)
    expect(page.locator("#data")).to_have_value(re.compile("^upload/.*digits.npz$"))
    page.get_by_label("Name of the run").fill("digits")
    page.get_by_label("Other settings").fill(_settings(STEPS))
    page.get_by_role("button", name="Look at the data").click()
    expect(page.locator("#result")).to_contain_text("10 classes")
    expect(page.locator("#result img.preview")).to_be_visible()
    assert accessibility_faults(page) == []
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1, name="digits")).to_be_visible()
    expect(page.locator(".state.finished")).to_be_visible()
    expect(page.locator(".uplot canvas")).to_have_count(6)


def _settings(steps):
    settings = [setting for setting in TINY if "preview" not in setting]
    settings += [f"training.steps={steps}", "training.preview_every=100", "data.held_out=0.1"]
    return "\n".join([*settings, "model.class_conditional=true"])


def _sample(page):
    page.get_by_role("main").get_by_role("link", name="Sample", exact=True).click()
    page.get_by_label("Class").select_option("2")
    page.get_by_label("Number").fill("4")
    page.get_by_role("button", name="Draw samples").click()
    expect(page.locator("#result .items img")).to_have_count(4)
    page.get_by_role("button", name="Sample 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Edit this").click()


def _inpaint(page, folder):
    canvas = page.locator("#painter canvas")
    expect(page.locator("#painter")).not_to_have_attribute("aria-busy", "true")
    assert canvas.evaluate("canvas => canvas.width") == 8
    before = canvas.evaluate("canvas => canvas.toDataURL()")
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] * 0.8)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.8, steps=6)
    page.mouse.up()
    assert canvas.evaluate("canvas => canvas.toDataURL()") != before
    page.get_by_role("button", name="Draw versions").click()
    expect(page.locator("#result .items img")).to_have_count(4)
    expect(page.get_by_role("heading", name="Before and after")).to_be_visible()
    page.get_by_label("Divider").fill("20")
    assert accessibility_faults(page) == []
    assert (folder / "before_after.png").is_file()


def _measure(page):
    page.get_by_role("link", name="Measure", exact=True).click()
    expect(page.get_by_text("Takes about").first).to_be_visible()
    page.locator("#likelihood-form").get_by_role("button", name="Measure").click()
    expect(page.locator("#measure-table")).to_contain_text("bits/dim")
    page.locator("#evaluate-form").get_by_label("Number").fill("20")
    page.locator("#evaluate-form").get_by_role("button", name="Measure").click()
    expect(page.locator("#measure-table")).to_contain_text("recall")
    assert accessibility_faults(page) == []


def _after_training(route, page):
    """Let a page of a run listen only when the training that it shows has ended."""
    if "run=fewer" in route.request.url:
        head = route.request.url.replace("/events", "/run/head")
        wait_until(lambda: 'class="state finished"' in page.request.get(head).text())
    route.continue_()


def _compare(page, runs):
    """Train another model, by the name of the data; both in one plot, and beside each other."""
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_label("Data", exact=True).fill("digits")
    page.get_by_label("Name of the run").fill("fewer")
    page.get_by_label("Other settings").fill(_settings(FEWER))
    page.route("**/events*", lambda route: _after_training(route, page))
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1, name="fewer")).to_be_visible()
    expect(page.locator(".state.finished")).to_be_visible()
    page.unroute("**/events*")
    page.get_by_label("Compare with").select_option("digits")
    expect(page.locator(".uplot .u-legend").first).to_contain_text("(fewer)")
    expect(page.locator(".uplot .u-legend").first).to_contain_text("(digits)")
    page.get_by_role("link", name="Measure", exact=True).click()
    form = page.locator("#compare-runs-form")
    form.get_by_label("Other run").select_option("fewer")
    form.get_by_label("Number").fill("20")
    form.get_by_role("button", name="Measure").click()
    expect(page.locator("#measure-table tr", has_text="recall").locator("a")).to_have_count(2)
    both = json.loads((runs / "evaluation/comparison.json").read_text())
    assert [row["run"].rpartition("/")[2] for row in both] == ["digits", "fewer"]
    assert accessibility_faults(page) == []
    page.get_by_role("link", name=re.compile("^Queue")).click()
    expect(page.locator(".job-row .state.done")).to_have_count(6)
