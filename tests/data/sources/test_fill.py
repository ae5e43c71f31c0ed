"""NaN that is read as a number, and counted."""

import h5py
import nibabel
import numpy as np
import pytest
import tifffile

from iddpm.data.sources.cached import cached
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


def test_missing_cells_of_tables_are_filled(tmp_path):
    (tmp_path / "a.csv").write_text("1.5,,3.5,0\n4.5,NA,6.5,1\n7.5,8.5,nan,0\n")
    with pytest.raises(ValueError, match="line 1, column 2 is empty"):
        open_source(tmp_path / "a.csv", labels="last")
    with pytest.warns(UserWarning, match="3 of 9 numbers are NaN and read as 2"):
        source = open_source(tmp_path / "a.csv", labels="last", fill=2.0)
    assert list(source.labels) == [0, 1, 0]
    low, high = source.form.values.low, source.form.values.high
    found = (source.read_many(range(3))[:, 0].astype(float) + 1) / 2 * (high - low) + low
    assert np.abs(found - [[1.5, 2, 3.5], [4.5, 2, 6.5], [7.5, 8.5, 2]]).max() < 1e-5
    for name in ("b", "c"):
        (tmp_path / f"d/{name}.csv").parent.mkdir(exist_ok=True)
        (tmp_path / f"d/{name}.csv").write_text("x,y\n1.5,2.5\n3.5,\n")
    with pytest.warns(UserWarning, match="2 of 8 numbers are NaN"):
        assert open_source(tmp_path / "d", fill=0.0).shape == (2, 2)


def test_a_missing_class_is_never_filled(tmp_path):
    (tmp_path / "a.csv").write_text("1.5,2.5,0\n4.5,5.5,NA\n")
    with pytest.raises(ValueError, match="line 2: column 3 has no label"):
        open_source(tmp_path / "a.csv", labels="last", fill=0.0)
    (tmp_path / "a.csv").write_text("1.5,x,0\n4.5,,1\n")
    with pytest.raises(ValueError, match="column 2 holds 'x'"):
        open_source(tmp_path / "a.csv", labels="last", fill=0.0)


@pytest.mark.filterwarnings("ignore:.*are NaN and read as")
def test_a_cache_holds_what_was_filled(tmp_path):
    (tmp_path / "data").mkdir()
    path, settings = files(tmp_path / "data")
    found = []
    for fill in (1.0, 2.0, 1.0):
        source = open_source(path, fill=fill, value_range=(-20, 20), **settings)
        found.append(cached(source, tmp_path / "cache", path, "NDHW").read(0)[0, 0, 0, 0])
    assert found == pytest.approx([0.05, 0.1, 0.05])
