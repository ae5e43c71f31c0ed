"""``iddpm upscale``: one process, as a user starts it."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import iddpm
from iddpm.cli.main import run as command
from iddpm.training.monitoring.terminal import SilentReporter
from tests.conftest import TINY, images


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("upscale")
    np.savez(folder / "x.npz", arr_0=images())
    iddpm.train(
        folder / "x.npz",
        out=folder / "run",
        settings=[*TINY, "training.steps=2", "task=super_resolution", "scale=2",
                  "degradation.augment=0.5"],
        reporter=SilentReporter(),
    )  # fmt: skip
    Image.fromarray(images(1, size=13)[0, ..., 0]).save(folder / "a.png")
    return folder / "run"


def test_a_picture_and_an_array_in_one_call(run):
    np.save(run.parent / "b.npy", images(2, size=5))
    out = run.parent / "out"
    done = subprocess.run(
        [sys.executable, "-m", "iddpm", "upscale", str(run), str(run.parent / "a.png"),
         str(run.parent / "b.npy"), "--steps", "2", "--sampler", "ddim", "--spacing", "even",
         "--overlap", "0.5", "--low-res-noise", "0.1", "--seed", "3", "--batch-size", "8",
         "--out", str(out), "--threads", "1", "--device", "cpu"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "3 items in 44 tiles, each 2 evaluations: ddim, even"
    assert lines[1:] == [f"wrote {out / name}" for name in ("a.png", "b.npy", "comparison.png")]
    with Image.open(out / "a.png") as image:
        assert image.size == (26, 26)
    assert np.load(out / "b.npy").shape == (2, 10, 10, 1)


def test_bad_input_is_one_sentence(run, capsys):
    picture, out = str(run.parent / "a.png"), str(run.parent / "bad")
    Image.new("RGB", (4, 4)).save(run.parent / "rgb.png")
    for arguments, message in (
        ([str(run.parent / "none.png")], "there is no file"),
        ([str(run.parent / "rgb.png")], "convert it first"),
        ([picture, "--overlap", "1"], "overlap=1 is a share of a tile"),
        ([picture, "--low-res-noise", "0.9"], "low_res_noise=0.9 needs a super-resolution model"),
        ([picture, "--steps", "99"], "99"),
        ([picture, "--class", "cat"], "class 'cat' was requested"),
        ([picture, picture], "would both become a.png"),
    ):
        assert command(["upscale", str(run), *arguments, "--out", out]) == 2, arguments
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert message in error
        assert error.count("\n") == 1
    assert not (run.parent / "bad").exists()
