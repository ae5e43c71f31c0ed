"""``iddpm data inspect``, also of files that are broken in every way."""

import io
import resource
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from tempfile import TemporaryDirectory

import h5py
import nibabel
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from iddpm.cli import run


def told(*arguments):
    """Run the command in this process: its status, what it printed, and what it complained of."""
    out, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(complaint):
        status = run(list(map(str, arguments)))
    return status, out.getvalue(), complaint.getvalue()


def test_it_says_what_it_found(tmp_path):
    for number in range(12):
        path = tmp_path / f"sounds/{'ab'[number % 2]}/{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        tone = np.sin(np.arange(1000) / 9) * 0.5
        soundfile.write(path, tone, 8000, subtype="PCM_16")
    status, out, _ = told(
        "data", "inspect", tmp_path / "sounds", "-s", "data.window=100", "--out", tmp_path / "p.png"
    )
    assert status == 0
    for part in (
        "sounds: 120 items, each 1 x 100 (signals of 1 channel)",
        "int16, 16 bits: -32768 to 32767 become -1 to 1",
        "used       -163",
        "2 classes: a (60), b (60)",
        "0.024 MB in all, 0.2 kB an item",
        "8000 Hz, 0.0125 s an item, written as PCM_16",
        f"wrote {tmp_path / 'p.png'}",
    ):
        assert part in out
    assert Image.open(tmp_path / "p.png").size[0] > 100


def test_it_says_what_it_found_of_clips(tmp_path):
    frames = [Image.fromarray(np.full((9, 8), 20 * k, np.uint8)) for k in range(7)]
    for number in range(3):
        kept = frames[: 5 + number % 2]
        kept[0].save(tmp_path / f"{number}.gif", save_all=True, append_images=kept[1:], duration=50)
    status, out, _ = told(
        "data", "inspect", tmp_path, "-s", "data.window=[4,9,8]", "-s", "data.stride=1",
        "--out", tmp_path / "p.png",
    )  # fmt: skip
    assert status == 0
    for part in (
        "7 items, each 1 x 4 x 9 x 8 (clips of 1 channel)",
        "frames     4 an item, 50 ms each, written as GIF",
    ):
        assert part in out
    assert Image.open(tmp_path / "p.png").size == (2 + 3 * 247, 2 + 3 * 65)


@cache
def whole_files():
    """Return one small valid file of each kind, by suffix."""
    array = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
    with TemporaryDirectory() as folder:
        np.save(f"{folder}/a.npy", array)
        np.savez(f"{folder}/a.npz", array, np.arange(5))
        np.savez_compressed(f"{folder}/b.npz", array)
        with h5py.File(f"{folder}/a.h5", "w") as file:
            file.create_dataset("data", data=array, compression="gzip")
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), f"{folder}/a.nii")
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), f"{folder}/a.nii.gz")
        soundfile.write(f"{folder}/a.wav", array.reshape(-1, 1) / 256, 8000, subtype="PCM_16")
        soundfile.write(f"{folder}/a.flac", array.reshape(-1, 1) / 256, 8000, subtype="PCM_16")
        np.savetxt(f"{folder}/a.csv", array.reshape(5, -1) + 0.5, delimiter=",")
        frames = [Image.fromarray(frame) for frame in array]
        names = ["a.npy", "a.npz", "b.npz", "a.h5", "a.nii", "a.nii.gz", "a.wav", "a.flac", "a.csv"]
        for name in ("a.gif", "a.webp", "a.apng", "a.tif"):
            frames[0].save(f"{folder}/{name}", save_all=True, append_images=frames[1:])
            names.append(name)
        return {name: open(f"{folder}/{name}", "rb").read() for name in names}


@st.composite
def broken_files(draw):
    """A name and bytes: random, cut short, with bytes changed, or under another name."""
    files = whole_files()
    content = bytearray(files[draw(st.sampled_from(sorted(files)))])
    name = draw(st.sampled_from(sorted(files)))
    how = draw(st.sampled_from(["random", "cut", "changed", "renamed", "header"]))
    if how == "random":
        content = bytearray(draw(st.binary(max_size=400)))
    if how in ("cut", "changed", "header"):
        content = bytearray(files[name])
    if how == "cut":
        content = content[: draw(st.integers(0, len(content)))]
    if how in ("changed", "header"):
        reach = min(len(content), 400 if how == "header" else len(content)) - 1
        for place in draw(st.lists(st.integers(0, reach), min_size=1, max_size=6)):
            content[place] = draw(st.integers(0, 255))
    return name, bytes(content)


@given(broken_files())
@settings(
    max_examples=300,
    deadline=5000,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_broken_files_get_one_sentence(tmp_path, case):
    name, content = case
    path = tmp_path / name
    path.write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, _, complaint = told(
        "data", "inspect", path, "-s", "data.layout=NHW" if "np" in name or "h5" in name else
        "data.held_out=0.1", "--out", tmp_path / "p.png",
    )  # fmt: skip
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 << 10  # KiB
    assert status in (0, 2)
    if status == 2:
        errors = [line for line in complaint.splitlines() if not line.startswith("warning: ")]
        assert len(errors) == 1
        assert errors[0].startswith("error: ")
    path.unlink()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "", "no rows"),
        ("a.csv", "1,2,3\n4,5\n", "one length"),
        ("a.csv", "1.5,2,3\n4,nan,6.5\n", "NaN"),
        ("a.csv", "1,2,3\n4,5,6\n", "labels=first, last or none"),
        ("a.csv", "cat,dog\n", "no rows"),
        ("a.wav", "", "not a sound"),
        ("a.nii", "no volume", "not a NIfTI file"),
        ("a.h5", "no array", "not an HDF5 file"),
        ("a.gif", "", "is empty"),
        ("a.gif", "GIF89a", "cut short"),
        ("a.tif", "no pages", "not a picture"),
        ("a.xyz", "0", "data is a folder"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    status, _, complaint = told("data", "inspect", tmp_path / name)
    assert (status, complaint.count("\n")) == (2, 1)
    assert message in complaint
