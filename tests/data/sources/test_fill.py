"""NaN that is read as a number, and counted."""

import h5py
import nibabel
import numpy as np
import pytest
import tifffile

from iddpm.data.sources.open import open_source

X = np.random.default_rng(0).normal(5, 2, (3, 6, 7, 8)).astype(np.float32)
X[0, 0, :2, :2] = X[2, 1, 1, 1] = np.nan


def volumes(path):
    for k, x in enumerate(X):
        nibabel.save(nibabel.Nifti1Image(x, np.eye(4)), path / f"{k}.nii.gz")
    return path, {}


def array(path):
    np.save(path / "a.npy", X)
    return path / "a.npy", {"layout": "NDHW"}


def dataset(path):
    with h5py.File(path / "a.h5", "w") as file:
        file["images"] = X
    return path / "a.h5", {"layout": "NDHW"}


def files(path):
    for k, x in enumerate(X):
        np.save(path / f"{k}.npy", x)
    return path, {"layout": "NDHW"}


def stacks(path):
    for k, x in enumerate(X):
        tifffile.imwrite(path / f"{k}.tif", x, photometric="minisblack", metadata=None)
    return path, {}


@pytest.mark.parametrize("write", [volumes, array, dataset, files, stacks])
@pytest.mark.parametrize("fill", [0.0, -3.5, 6.0])
def test_nan_is_filled_where_a_number_is_given(tmp_path, write, fill):
    path, settings = write(tmp_path)
    with pytest.raises(ValueError, match=r"holds NaN or infinity.*data\.fill=0"):
        open_source(path, **settings)
    with pytest.warns(UserWarning, match=rf"5 of 1008 numbers are NaN and read as {fill:g}"):
        source = open_source(path, fill=fill, **settings)
    expected = np.where(np.isnan(X), np.float32(fill), X)
    low, high = source.form.values.low, source.form.values.high
    assert (low, high) == (expected.min(), expected.max())
    found = (source.read_many(range(3))[:, 0].astype(np.float64) + 1) / 2 * (high - low) + low
    assert np.abs(found - expected).max() < 1e-5


def test_infinity_is_never_filled(tmp_path):
    np.save(tmp_path / "a.npy", np.where(np.isnan(X), np.inf, X))
    with pytest.raises(ValueError, match="NaN or infinity"):
        open_source(tmp_path / "a.npy", layout="NDHW", fill=0.0)


def test_a_fill_outside_a_stated_range_is_refused(tmp_path):
    path, settings = array(tmp_path)
    with pytest.raises(ValueError, match=r"set a wider data\.range"):
        open_source(path, fill=-90.0, value_range=(-20.0, 20.0), **settings)
