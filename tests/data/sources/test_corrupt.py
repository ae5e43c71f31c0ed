"""Files that are damaged, left out by data.corrupt=skip, whatever they hold."""

import nibabel
import numpy as np
import pytest
import soundfile
import tifffile
from PIL import Image

from iddpm.data.sources.open import open_source
from tests.data.sources.test_dicom import write

NOISE = np.random.default_rng(0).integers(0, 200, (40, 8, 6))


def gif(path, number):
    first, *others = (Image.fromarray(x.astype(np.uint8)) for x in NOISE[number : number + 4])
    first.save(path, save_all=True, append_images=others)


def sound(path, number):
    soundfile.write(path, NOISE[number : number + 30].ravel() / 200 - 0.5, 8000)


def volume(path, number):
    nibabel.save(nibabel.Nifti1Image(NOISE[number : number + 8].astype(np.int16), np.eye(4)), path)


def aiff(path, number):
    soundfile.write(path, NOISE[number : number + 30].ravel() / 200 - 0.5, 8000, format="AIFF")


def dicom(path, number):
    write(path, NOISE[number].astype(np.int16), SeriesInstanceUID=f"1.{number}")


WRITERS = {
    "numbers.tif": lambda path, n: tifffile.imwrite(path, NOISE[n].astype(np.float32)),
    "stack.tif": lambda path, n: tifffile.imwrite(
        path, NOISE[n : n + 5].astype(np.uint8), photometric="minisblack"
    ),
    "clip.gif": gif,
    "sound.wav": sound,
    "sound.flac": sound,
    "sound.aiff": aiff,
    "scan.dcm": dicom,
    "volume.nii": volume,
    "volume.nii.gz": volume,
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("kept", [0, 0.5, 0.97])
def test_damaged_files_are_left_out_and_named(tmp_path, kind, kept):
    suffix = kind[kind.index(".") :]
    for number in range(4):
        path = tmp_path / f"{number}{suffix}"
        WRITERS[kind](path, number)
        if number in (0, 2):
            content = path.read_bytes()
            path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=rf"0{suffix}"):
        open_source(tmp_path).read_many(range(4))
    left_out = rf"skipped 2 of 4 files .*\(0{suffix}, 2{suffix}\), first"
    with pytest.warns(UserWarning, match=left_out):
        source = open_source(tmp_path, corrupt="skip")
    assert [source.key(k) for k in range(len(source))] == [f"1{suffix}", f"3{suffix}"]
    source.read_many([0, 1])
    for number in (1, 3):
        (tmp_path / f"{number}{suffix}").unlink()
    with pytest.raises(ValueError, match=r"none of the 2 files|no picture is left"):
        open_source(tmp_path, corrupt="skip")


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv"])
def test_arrays_and_tables_have_no_files_to_leave_out(tmp_path, name):
    if name == "a.csv":
        np.savetxt(tmp_path / name, NOISE[0] + 0.5, delimiter=",")
    else:
        (np.save if name == "a.npy" else np.savez)(tmp_path / name, NOISE[..., None])
    with pytest.raises(ValueError, match=f"{name} is one file: leave the setting out"):
        open_source(tmp_path / name, corrupt="skip")


def test_a_broken_link_is_reported_once(tmp_path):
    for number in range(2):
        Image.fromarray(NOISE[number].astype(np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.warns(UserWarning, match=r"broken links: .*gone\.png") as warned:
        assert len(open_source(tmp_path, corrupt="skip")) == 2
    assert len(warned) == 1
