"""Formats x features: each reader against files from raw bytes, and against the field's library.

A feature is read right, value for value, or raises a one-sentence error. `docs/formats.md` has the
same table.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import imagecodecs
import nibabel
import numpy as np
import pillow_heif
import pytest
import scipy.io.wavfile
import soundfile
import tifffile
from PIL import Image, ImageOps

from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source
from tests.data.sources.features import first
from tests.data.sources.features_of_arrays import ARRAY_ROWS
from tests.data.sources.features_of_pictures import PICTURE_ROWS
from tests.data.sources.features_of_sounds import FLAC_ROWS, WAV_ROWS
from tests.data.sources.features_of_volumes import OTHER_ROWS

PAGE = Path(__file__).parents[3] / "docs/formats.md"
ALL = [*WAV_ROWS, *FLAC_ROWS, *ARRAY_ROWS, *PICTURE_ROWS, *OTHER_ROWS]
SUFFIXES = {"HDF5": ".h5", "NIfTI": ".nii", "TIFF": ".tif", "JPEG": ".jpg",
            "JPEG 2000": ".jp2"}  # fmt: skip


def read_by_scipy(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chunks that it does not know
        x = scipy.io.wavfile.read(path)[1]
    if x.dtype == np.uint8:
        x = (x.astype(np.float32) - 128) / 128
    elif (x.dtype.kind, x.dtype.itemsize) == ("i", 4):
        x = x / 2.0**31
    return np.atleast_2d(x.T)


def read_by_soundfile(path: Path) -> np.ndarray:
    integers = soundfile.info(path).subtype == "PCM_16"
    return soundfile.read(path, dtype="int16" if integers else "float64", always_2d=True)[0].T


def read_by_pillow(path: Path) -> np.ndarray:
    pillow_heif.register_heif_opener()
    with Image.open(path) as image:
        return first(image.convert("RGB") if image.mode == "P" else ImageOps.exif_transpose(image))


LIBRARIES: dict[str, Callable[[Path], np.ndarray]] = {
    "scipy": read_by_scipy,
    "soundfile": read_by_soundfile,
    "numpy": lambda p: np.load(p) if p.suffix == ".npy" else np.load(p)["arr_0"],
    "h5py": lambda p: h5py.File(p)["images"][:],
    "imagecodecs": lambda p: first(imagecodecs.imread(p)),
    "nibabel": lambda p: nibabel.load(p).get_fdata()[None],
    "tifffile": lambda p: tifffile.imread(p)[None],
    "Pillow": read_by_pillow,
}
"""What reads a file without a line of ours, as the values are laid out here."""


def read(path: Path, settings: Mapping[str, Any]) -> np.ndarray:
    """Return the numbers of the first item, or of all rows, as the data holds them."""
    table = path.suffix in (".npy", ".npz", ".h5")
    source = open_source(path if table or path.suffix in (".wav", ".flac", ".nii") else path.parent,
                         **({"layout": "NL"} if table else {}), **settings)  # fmt: skip
    x = source.read_many(range(len(source)))
    values = source.form.values
    numbers = x if values is None else values.restore(to_model_range(x, source.bits))
    return numbers[:, 0] if table else numbers[0]


@pytest.mark.parametrize("row", ALL, ids=lambda row: f"{row.format}: {row.feature}"[:60])
def test_each_feature_is_read_right_or_refused(tmp_path, row):
    suffix = row.suffix or SUFFIXES.get(row.format, f".{row.format.lower()}")
    files = row.files()
    assert files
    for number, file in enumerate(files):
        path = tmp_path / str(number) / f"a{suffix}"
        path.parent.mkdir()
        if isinstance(file.content, bytes):
            path.write_bytes(file.content)
        else:
            file.content(path)
        if row.refused:
            with pytest.raises(ValueError, match=row.refused) as caught:
                read(path, file.settings)
            assert "\n" not in str(caught.value)
            continue
        with warnings.catch_warnings(record=True) as caught_warnings:
            warnings.simplefilter("always")
            found = read(path, file.settings)
        heard = [str(w.message) for w in caught_warnings]
        assert any(file.warns in text for text in heard) if file.warns else not heard, heard
        wanted = np.asarray(file.values)
        assert found.shape == wanted.shape
        off = np.abs(found.astype(np.float64) - wanted).max()
        assert off <= file.off, f"file {number} is off by {off}"
        if row.library:
            other = LIBRARIES[row.library](path)
            assert np.abs(found.astype(np.float64) - other).max() <= max(file.off, 1e-7)


def test_the_page_has_the_same_table():
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    start = lines.index("| format | feature | | also read by |") + 2
    documented = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        documented.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    assert documented == [
        (r.format, r.feature, "error" if r.refused else "read", r.library) for r in ALL
    ]
