"""Gray stored as color is reported, with a remedy."""

import numpy as np
import pytest
from PIL import Image

from iddpm.cli.main import run
from iddpm.data.gray_in_color import gray_note
from iddpm.data.sources.open import open_source
from iddpm.tasks.inspect import inspect
from tests.conftest import TINY

GRAY = np.random.default_rng(0).integers(0, 256, (40, 8, 6, 1)).repeat(3, -1).astype(np.uint8)


def folder(path, pictures):
    path.mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(path / f"{number:02}.png")
    return path


def test_pictures_of_equal_channels_are_reported(tmp_path):
    note = gray_note(open_source(folder(tmp_path / "in", GRAY)))
    assert note.startswith("note: in is gray")
    assert "-s data.channels=1" in note
    assert gray_note(open_source(tmp_path / "in", channels=1)) == ""
    said = list(inspect(str(tmp_path / "in"), ["data.image_size=8"], tmp_path / "p.png"))
    assert sum(line.startswith("note: ") for line in said) == 1
    stated = ["data.image_size=8", "data.channels=3"]
    said = list(inspect(str(tmp_path / "in"), stated, tmp_path / "p.png"))
    assert not any(line.startswith("note: ") for line in said)


def test_arrays_of_equal_channels_are_reported(tmp_path):
    np.save(tmp_path / "a.npy", GRAY)
    assert "save one of them" in gray_note(open_source(tmp_path / "a.npy"))


@pytest.mark.parametrize("place", [0, 20, 39])
def test_one_pixel_in_color_is_enough(tmp_path, place):
    colored = GRAY.copy()
    colored[place:, 3, 3, 1] += 1
    assert gray_note(open_source(folder(tmp_path / "in", colored))) == ""


def test_training_begins_with_the_note(tmp_path, capsys):
    data = folder(tmp_path / "in", GRAY)
    tiny = [word for setting in TINY for word in ("-s", setting)]
    assert run(["train", str(data), *tiny, "--steps", "1", "--out", str(tmp_path / "run")]) == 0
    assert "note: in is gray and stored in 3 equal channels" in capsys.readouterr().out
