"""From an empty directory to a model that is trained, sampled, inpainted and measured by clicks."""

import re

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import TINY, images
from tests.ui.browser import accessibility_faults, watched_page
from tests.ui.served import CHROMIUM, served

STEPS = 200


@pytest.mark.system
@pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}")
def test_from_an_empty_directory_to_a_model_that_is_measured(tmp_path):
    np.savez(tmp_path / "digits.npz", arr_0=images(60), arr_1=np.arange(60) % 3)
    with served(tmp_path / "runs") as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        with watched_page(browser, url) as page:
            _train(page, tmp_path / "digits.npz")
            _sample(page)
            _inpaint(page, tmp_path / "runs/digits/samples/inpainting")
            _measure(page)
        browser.close()


def _train(page, data):
    page.get_by_role("link", name="Train", exact=True).click()
    page.get_by_label("Or drop one file").set_input_files(data)
    expect(page.locator("#data")).to_have_value(re.compile("^upload/.*digits.npz$"))
    page.get_by_label("Name of the run").fill("digits")
    settings = [*TINY, f"training.steps={STEPS}"]
    settings = [s for s in settings if "preview" not in s]
    settings += ["training.preview_every=100", "model.class_conditional=true", "data.held_out=0.1"]
    page.get_by_label("Other settings").fill("\n".join(settings))
    page.get_by_role("button", name="Look at the data").click()
    expect(page.locator("#result")).to_contain_text("3 classes")
    expect(page.locator("#result img.preview")).to_be_visible()
    assert accessibility_faults(page) == []
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("heading", level=1, name="digits")).to_be_visible()
    expect(page.locator(".state.finished")).to_be_visible()
    expect(page.locator(".uplot canvas")).to_have_count(6)


def _sample(page):
    page.get_by_role("main").get_by_role("link", name="Sample", exact=True).click()
    page.get_by_label("Class").select_option("2")
    page.get_by_label("Number").fill("4")
    page.get_by_role("button", name="Draw samples").click()
    expect(page.locator("#result .items img")).to_have_count(4)
    page.get_by_role("button", name="Sample 1").click()
    page.get_by_role("dialog").get_by_role("link", name="Edit this").click()


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
    page.get_by_label("Number").fill("20")
    page.locator("#evaluate-form").get_by_role("button", name="Measure").click()
    expect(page.locator("#measure-table")).to_contain_text("recall")
    assert accessibility_faults(page) == []
    page.get_by_role("link", name=re.compile("^Queue")).click()
    expect(page.locator(".job-row .state.done")).to_have_count(5)
