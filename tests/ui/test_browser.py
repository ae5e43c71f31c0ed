"""The pages in a real browser: Chromium, driven by Playwright."""

import re
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

import iddpm.ui
from iddpm.cli.main import run as command
from tests.ui.browser import accessibility_faults, watched_page
from tests.ui.conftest import SCRIPT, record_line, write_run
from tests.ui.served import CHROMIUM, served

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium, or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def runs(signal_and_volume, tmp_path_factory):
    """A copy of the trained runs, with samples of each and a run that is named like a script."""
    runs = tmp_path_factory.mktemp("browser") / "runs"
    shutil.copytree(signal_and_volume, runs)
    for name in ("signals", "volumes"):
        shutil.rmtree(runs / name / "samples", ignore_errors=True)
        assert command(["sample", str(runs / name), "-n", "2", "--steps", "2"]) == 0
    write_run(runs / SCRIPT, 200, status=1, reason="diverged", step=9, message=f"bad {SCRIPT}")
    return runs


@pytest.fixture(scope="module")
def url(runs):
    with served(runs) as url:
        yield url


def test_scripts_of_others_come_with_their_licenses():
    vendor = Path(iddpm.ui.__file__).parent / "static" / "vendor"
    folders = [path for path in vendor.iterdir() if path.is_dir()]
    assert sorted(path.name for path in folders) == ["htmx", "uplot"]
    for folder in folders:
        assert "hereby granted" in (folder / "LICENSE").read_text()


def base_of(url):
    return url.partition("/?")[0]


def test_samples_are_drawn_looked_at_and_kept_by_clicks(browser, url, runs):
    with watched_page(browser, url) as page:
        page.get_by_role("link", name="pictures", exact=True).click()
        expect(page.locator(".uplot canvas")).to_have_count(6)
        page.get_by_role("main").get_by_role("link", name="Sample", exact=True).click()
        page.get_by_label("Class").select_option(SCRIPT)
        page.get_by_label("Number").fill("6")
        page.get_by_label("Seed", exact=True).fill("11")
        page.get_by_role("spinbutton", name="Network evaluations").fill("8")
        page.get_by_text("The same from a shell or from Python").click()
        expect(page.locator("#commands pre").first).to_contain_text("--seed 11")
        page.get_by_role("button", name="Draw samples").click()
        expect(page.locator("#result .items img")).to_have_count(6)
        expect(page.locator("#result")).to_contain_text("8 evaluations")
        page.get_by_role("button", name="Sample 4").click()
        dialog = page.get_by_role("dialog")
        way = dialog.get_by_label("Step of the way from noise")
        way.focus()
        page.keyboard.press("Home")
        expect(dialog.locator(".way img")).to_have_attribute("src", re.compile("frame=0$"))
        assert accessibility_faults(page) == []
        dialog.get_by_role("button", name="Keep").click()
        expect(dialog.get_by_role("status")).to_contain_text("samples/kept/seed_11_000004.png")
        assert (runs / "pictures/samples/kept/seed_11_000004.png").is_file()
        with page.expect_download() as download:
            dialog.get_by_role("link", name="Download").click()
        assert download.value.suggested_filename == "000004.png"
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()


def test_a_run_is_watched_while_its_log_grows(browser, url, runs):
    with watched_page(browser, url) as page:
        page.goto(f"{base_of(url)}/run?run={SCRIPT.replace(' ', '%20')}")
        expect(page.locator(".tile").first).to_contain_text("2,000")
        with (runs / SCRIPT / "log.jsonl").open("a") as file:
            file.write(record_line(250))
        expect(page.locator(".tile").first).to_contain_text("2,500")
        plot = page.locator('[data-plot="loss"]')
        expect(plot.get_by_role("img")).to_have_attribute(
            "aria-label", re.compile("training 0.004")
        )
        legend = plot.locator(".u-legend")  # the last record has no held-out loss, one before has
        expect(legend).to_contain_text("held out0.007")
        box = plot.locator(".u-over").bounding_box()
        page.mouse.move(box["x"] + 60, box["y"] + 60)
        page.mouse.down()
        with page.expect_response(re.compile("/run/curves.*from=")):
            page.mouse.move(box["x"] + 160, box["y"] + 90, steps=4)
            page.mouse.up()
        with page.expect_response(re.compile("/run/curves.*from=500&to=1500")):
            page.get_by_label("Step: from").fill("500")
            page.get_by_label("Step: to").fill("1500")
            page.keyboard.press("Enter")
        page.get_by_role("button", name="Reset zoom").click()
        expect(page.get_by_label("Step: to")).to_have_value("")
        page.get_by_label("Compare with").select_option("pictures")
        expect(plot.locator(".u-legend")).to_contain_text("(pictures)")
        page.get_by_label("Smoothing").select_option("20")
        page.get_by_label("only those that differ").uncheck()
        expect(page.get_by_role("row", name="training.weight_decay")).to_be_visible()


def test_signals_and_volumes_are_looked_at(browser, url):
    with watched_page(browser, url) as page:
        page.goto(f"{base_of(url)}/sample?run=signals&samples=seed_0")
        page.get_by_role("button", name="Sample 1").click()
        signal = page.get_by_role("dialog").locator(".signal")
        box = signal.locator(".u-over").bounding_box()
        page.mouse.move(box["x"] + 40, box["y"] + 40)
        page.mouse.down()
        with page.expect_response(re.compile("/item/values.*from=")):
            page.mouse.move(box["x"] + 200, box["y"] + 60, steps=4)
            page.mouse.up()
        page.get_by_label("Part of the signal: from").fill("10")
        with page.expect_response(re.compile("/item/values.*from=10&to=21")):
            page.get_by_label("Part of the signal: to").fill("20")
            page.keyboard.press("Enter")
        page.get_by_role("button", name="Keep").click()
        expect(page.locator("#kept")).to_contain_text("kept/seed_0_000001.npy")
        page.get_by_role("button", name="Edit this").click()
        expect(page.locator("#painter canvas")).to_have_attribute("width", "960")
        page.goto(f"{base_of(url)}/sample?run=signals&samples=kept")
        page.get_by_role("button", name="Sample 0").click()
        expect(page.get_by_role("dialog").locator(".signal canvas")).to_be_visible()
        assert accessibility_faults(page) == []
        page.goto(f"{base_of(url)}/sample?run=volumes&samples=seed_0")
        page.get_by_role("button", name="Sample 0").click()
        planes = page.get_by_role("dialog").locator("canvas")
        expect(planes).to_have_count(3)
        slider = page.get_by_role("slider", name="D")
        expect(slider).to_have_attribute("max", "7")
        before = planes.first.evaluate("canvas => canvas.toDataURL()")
        slider.focus()
        page.keyboard.press("ArrowRight")
        assert planes.first.evaluate("canvas => canvas.toDataURL()") != before


PAGES = (
    "/",
    "/run?run=pictures",
    "/sample?run=pictures&samples=seed_0",
    "/queue",
    "/train",
    "/edit?run=pictures",
    "/measure",
)


@pytest.mark.parametrize(("theme", "width"), [("light", 1400), ("dark", 400)])
def test_pages_are_accessible_and_fit_their_width(browser, url, runs, theme, width):
    words = ["sample", str(runs / "pictures"), "-n", "2", "--steps", "2"]
    if not (runs / "pictures/samples/seed_0").exists():
        assert command(words) == 0
    size = {"width": width, "height": 900}
    with watched_page(browser, url, viewport=size, color_scheme=theme) as page:
        for path in PAGES:
            page.goto(base_of(url) + path)
            if "/run?" in path:
                expect(page.locator(".uplot canvas")).to_have_count(6)
            page.evaluate(
                "for (const part of document.querySelectorAll('details')) part.open = true"
            )
            if "/edit" in path:
                expect(page.locator("#painter")).not_to_have_attribute("aria-busy", "true")
            assert accessibility_faults(page) == [], path
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, path


def test_chinese_dark_and_by_keyboard_alone(browser, url):
    with watched_page(browser, url, locale="zh-CN") as page:
        expect(page.locator("html")).to_have_attribute("lang", "zh-Hans")
        expect(page.get_by_role("heading", level=1)).to_have_text("训练")
        page.keyboard.press("Tab")
        expect(page.locator(":focus")).to_have_text("跳到正文")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")  # the first run
        focused = page.locator(":focus")
        expect(focused).to_have_attribute("href", re.compile("/run"))
        page.get_by_label("配色").focus()
        page.get_by_label("配色").select_option("dark")
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        expect(page.locator("body")).to_have_css("background-color", "rgb(16, 19, 23)")
        page.route("**/static/app.js", lambda route: None)  # lists do without it, which never comes
        page.goto(base_of(url), wait_until="commit")
        page.get_by_label("语言").select_option("en")
        expect(page.get_by_role("heading", level=1)).to_have_text("Runs")


def test_a_lost_server_is_said(browser, runs):
    with served(runs) as url:
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        expect(page.locator("#connection")).to_be_hidden()
    expect(page.locator("#connection")).to_be_visible(timeout=60_000)
    context.close()
