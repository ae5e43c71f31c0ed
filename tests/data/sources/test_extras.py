"""Kinds of data that need a library that is not installed."""

import sys

import pytest
import torch

from iddpm.data.file_format import Form
from iddpm.data.sources.open import open_source
from iddpm.data.writers.data_files import save_files
from tests.cli.broken import outcome, whole_files
from tests.data.sources.features_of_pictures import PICTURE_ROWS


@pytest.mark.parametrize(
    ("name", "module", "extra"),
    [
        ("a.wav", "soundfile", "audio"),
        ("a.flac", "soundfile", "audio"),
        ("a.h5", "h5py", "hdf5"),
        ("a.nii", "nibabel", "nifti"),
        ("a.mgz", "nibabel", "nifti"),
        ("a.nrrd", "SimpleITK", "itk"),
        ("a.mat", "scipy", "mat"),
        ("a.nc", "xarray", "netcdf"),
        ("a.edf", "pyedflib", "edf"),
        ("a.hea", "wfdb", "wfdb"),
        ("a.nii.gz", "nibabel", "nifti"),
        ("a.mp4", "av", "video"),
        ("a.dcm", "pydicom", "dicom"),
        ("a.mp3", "soundfile", "audio"),
        ("a.parquet", "pyarrow", "datasets"),
        ("a.arrow", "pyarrow", "datasets"),
    ],
)
def test_what_to_install_is_said(tmp_path, monkeypatch, name, module, extra):
    (tmp_path / name).write_bytes(whole_files()[name])
    for loaded in [key for key in sys.modules if key.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, module, None)  # an import of it fails now
    status, _, complaint = outcome("data", "inspect", tmp_path / name)
    assert (status, complaint.count("\n")) == (2, 1)
    assert module in complaint
    assert f"pip install 'iddpm[{extra}]'" in complaint


@pytest.mark.parametrize(
    ("kind", "module", "extra"), [("heic", "pillow_heif", "heic"), ("png", "imagecodecs", "tiff")]
)
def test_pictures_that_need_more_than_pillow_say_so(tmp_path, monkeypatch, kind, module, extra):
    rows = {"heic": "HEIC: 8 bits", "png": "PNG: 16 bits in color"}
    row = next(r for r in PICTURE_ROWS if f"{r.format}: {r.feature}".startswith(rows[kind]))
    (tmp_path / f"a.{kind}").write_bytes(row.files()[0].content)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf"needs {module}: pip install 'iddpm\[{extra}\]'"):
        open_source(tmp_path).read(0)


def test_resampling_needs_its_own(tmp_path, monkeypatch):
    (tmp_path / "a.wav").write_bytes(whole_files()["a.wav"])
    monkeypatch.setitem(sys.modules, "soxr", None)
    open_source(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=r"resampling .* needs soxr: pip install 'iddpm\[audio\]'"):
        open_source(tmp_path / "a.wav", sample_rate=4000)


@pytest.mark.parametrize(("kind", "module"), [("signal", "soundfile"), ("volume", "nibabel")])
def test_so_does_writing(tmp_path, monkeypatch, kind, module):
    monkeypatch.setitem(sys.modules, module, None)
    x = torch.zeros(1, 1, *([4] * (1 if kind == "signal" else 3)))
    with pytest.raises(ValueError, match=f"writing .* needs {module}: pip install"):
        save_files(x, tmp_path / "out", Form(kind))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
