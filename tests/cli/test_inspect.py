"""``iddpm data inspect``."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.cli.broken import outcome


def test_it_says_what_it_found(tmp_path):
    for number in range(12):
        path = tmp_path / f"sounds/{'ab'[number % 2]}/{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(1000) / 9) * 0.5
        soundfile.write(path, tone, 8000, subtype="PCM_16")
    status, out, _ = outcome(
        "data", "inspect", tmp_path / "sounds", "-s", "data.window=100", "--out", tmp_path / "p.png"
    )
    assert status == 0
    for part in (
        "sounds: 120 items, each 1 x 100 (signals of 1 channel)",
        "int16, 16 bits: -32768 to 32767 become -1 to 1",
        "used       -163",
        "2 classes: a (60), b (60)",
        "0.024 MB in total, 0.2 kB per item",
        "8000 Hz, 0.0125 s per item, written as PCM_16 in WAV",
        f"wrote {tmp_path / 'p.png'}",
    ):
        assert part in out
    assert Image.open(tmp_path / "p.png").size[0] > 100
    assert "few items" not in out
    _, out, _ = outcome("data", "inspect", tmp_path / "sounds", "--out", tmp_path / "p.png")
    assert "few items  -s data.window=[256] cuts windows out of them" in out


def test_it_says_what_it_found_of_clips(tmp_path):
    frames = [Image.fromarray(np.full((9, 8), 20 * k, np.uint8)) for k in range(7)]
    for number in range(3):
        kept = frames[: 5 + number % 2]
        kept[0].save(tmp_path / f"{number}.gif", save_all=True, append_images=kept[1:], duration=50)
    status, out, _ = outcome(
        "data", "inspect", tmp_path, "-s", "data.window=[4,9,8]", "-s", "data.stride=1",
        "--out", tmp_path / "p.png",
    )  # fmt: skip
    assert status == 0
    for part in (
        "7 items, each 1 x 4 x 9 x 8 (clips of 1 channel)",
        "frames     4 per item, 50 ms each, written as GIF",
    ):
        assert part in out
    assert Image.open(tmp_path / "p.png").size == (2 + 2 * 247, 2 + 4 * 65 + 124)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "1,2,3\n4,5\n", "same number of cells"),
        ("a.csv", "1.5,2,3\n4,nan,6.5\n", "NaN"),
        ("a.csv", "1,2,3\n4,5,6\n", "labels=first, last or none"),
        ("a.csv", "cat,dog\n", "no rows"),
        ("a.wav", "", "not a sound"),
        ("a.nii", "no volume", "not a NIfTI file"),
        ("a.h5", "no array", "not an HDF5 file"),
        ("a.gif", "", "is empty"),
        ("a.gif", "GIF89a", "truncated"),
        ("a.tif", "no pages", "not a picture"),
        ("a.xyz", "0", "data is a folder"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    status, _, complaint = outcome("data", "inspect", tmp_path / name)
    assert (status, complaint.count("\n")) == (2, 1)
    assert message in complaint


def test_the_histogram_is_under_the_items(tmp_path):
    x = np.zeros((20, 8, 8, 1), np.uint8)
    x[::2] = 127
    np.save(tmp_path / "x.npy", x)
    status, out, _ = outcome("data", "inspect", tmp_path / "x.npy", "--out", tmp_path / "p.png")
    assert status == 0
    assert "used       0 to 127" in out
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB"))
    bars = (picture == (31, 78, 160)).all(-1).any(0)
    shaded = (picture == (220, 232, 246)).all(-1).any(0)
    assert bars[:12].any()  # the zeros at the left end
    places = np.flatnonzero(bars[20:]) + 20  # the 127s in the middle, and no other
    assert (abs(places - 8 - 303 / 2) < 4).all()
    assert places.size
    assert abs(np.flatnonzero(shaded).max() - 8 - 303 / 2) < 3  # half of the range is used


def test_arrays_in_groups_of_a_hdf5_file_are_listed(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["train/images"] = np.zeros((4, 8, 8, 1), np.uint8)
        file["test/images"] = np.zeros((2, 8, 8, 1), np.uint8)
    for also in ((), ("-s", "data.column=imgs")):
        status, _, complaint = outcome("data", "inspect", tmp_path / "a.h5", *also)
        assert (status, complaint.count("\n")) == (2, 1)
        assert "data.column= and one of test/images, train/images" in complaint


def test_a_group_is_a_pattern_with_brackets(tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(80):
        picture = Image.fromarray(np.full((8, 8), number, np.uint8))
        picture.save(tmp_path / f"in/{number // 4:02}_{number % 4}.png")
    for rule, together in (("[0-9]+", 4), ("[0-9]", 40)):
        status, out, err = outcome(
            "data", "inspect", tmp_path / "in", "-s", f"data.group={rule}",
            "-s", "data.held_out=0.3", "--out", tmp_path / "p.png",
        )  # fmt: skip
        assert status == 0, err
        line = next(line for line in out.splitlines() if line.startswith("split"))
        assert int(line.split()[1]) % together == 0
        assert 0 < int(line.split()[1]) < 80
