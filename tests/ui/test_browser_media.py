"""Sounds and clips in a real browser: a sample of a sound plays, one of a clip moves."""

from contextlib import contextmanager

import numpy as np
import pytest
import soundfile
from PIL import Image
from playwright.sync_api import expect, sync_playwright

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images
from tests.ui.browser import accessibility_faults, watched_page
from tests.ui.served import CHROMIUM, served

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"no browser at {CHROMIUM}"),
]
RATE, LENGTH, FRAMES = 8000, 2048, 4


def write_data(folder):
    """Write noises as WAV files, and moving pictures as GIF files."""
    generator = np.random.default_rng(0)
    for name in ("sounds", "clips"):
        (folder / name).mkdir()
    for number in range(8):
        sound = generator.uniform(-0.5, 0.5, LENGTH)
        soundfile.write(folder / f"sounds/{number}.wav", sound, RATE, "PCM_16")
        frames = [Image.fromarray(x[..., 0]) for x in np.roll(images(8), number, axis=0)[:FRAMES]]
        how = {"save_all": True, "append_images": frames[1:], "duration": 100}
        frames[0].save(folder / f"clips/{number}.gif", **how)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The address of runs of sounds and of clips, which have samples."""
    folder = tmp_path_factory.mktemp("media")
    write_data(folder)
    for name in ("sounds", "clips"):
        settings = [*TINY, "training.steps=1"]
        out = folder / "runs" / name
        iddpm.train(folder / name, out=out, reporter=SilentReporter(), settings=settings)
        assert command(["sample", str(out), "-n", "2", "--steps", "2"]) == 0
    with served(folder / "runs") as url:
        yield url


@contextmanager
def opened_item(url, run):
    """Yield the page with a sample of a run open in the dialog."""
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        with watched_page(browser, url) as page:
            page.goto(f"{url.partition('/?')[0]}/sample?run={run}&samples=seed_0")
            page.get_by_role("button", name="Sample 1").click()
            yield page.get_by_role("dialog")
            assert accessibility_faults(page) == []
        browser.close()


def test_a_sample_of_a_sound_plays(base):
    with opened_item(base, "sounds") as dialog:
        sound = dialog.locator("audio")
        ended = (
            "a => new Promise((done, failed) => {a.onended = done; a.onerror = failed; a.play()})"
        )
        sound.evaluate(ended)
        assert sound.evaluate("a => a.duration") == pytest.approx(LENGTH / RATE, abs=0.02)
        assert sound.evaluate("a => a.currentTime") > 0
        expect(dialog.locator(".signal canvas")).to_be_visible()


def test_a_sample_of_a_clip_moves(base):
    with opened_item(base, "clips") as dialog:
        frame, canvas = dialog.get_by_label("Frame"), dialog.locator(".clip canvas")
        expect(frame).to_have_attribute("max", str(FRAMES - 1))
        for k in range(FRAMES):  # each passes by, and again
            expect(frame).to_have_value(str(k))
        dialog.locator(".clip").get_by_role("button", name="Pause").click()
        shown = set()
        for k in range(FRAMES):
            frame.fill(str(k))
            shown.add(canvas.evaluate("canvas => canvas.toDataURL()"))
        assert len(shown) == FRAMES
