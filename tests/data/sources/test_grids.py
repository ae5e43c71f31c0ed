"""NetCDF files and Zarr stores, held against xarray."""

import json
import pickle

import numpy as np
import pytest
import xarray
import zarr

from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
FIELD = RANDOM.normal(280, 10, (6, 8, 9))


def data_set(field=FIELD, **attributes):
    axes = {"time": np.arange(6), "lat": np.linspace(-40, 40, 8), "lon": np.linspace(0, 90, 9)}
    return xarray.Dataset(
        {"t2m": (tuple(axes), field, {"units": "K", **attributes}), "crs": ((), 1)}, axes
    )


def physical(source, index=0):
    low, high = source.form.values.low, source.form.values.high
    return (source.read(index).astype(np.float64) + 1) / 2 * (high - low) + low


STORES = {
    "nc3": lambda d, p, e: d.to_netcdf(p / "a.nc", format="NETCDF3_64BIT", encoding=e),
    "nc4": lambda d, p, e: d.to_netcdf(p / "a.nc", encoding=e),
    "zarr2": lambda d, p, e: d.to_zarr(p / "a.zarr", zarr_format=2, encoding=e),
    "zarr3": lambda d, p, e: d.to_zarr(p / "a.zarr", zarr_format=3, encoding=e),
}  # fmt: skip


def write(path, kind, data, **encoding):
    STORES[kind](data, path, {"t2m": encoding} if encoding else {})
    return path / ("a.nc" if kind.startswith("nc") else "a.zarr")


@pytest.mark.parametrize("kind", STORES)
def test_fields_by_the_names_of_their_axes(tmp_path, kind):
    path = write(tmp_path, kind, data_set())
    source = pickle.loads(pickle.dumps(open_source(path)))
    assert (len(source), source.shape, source.form.units) == (6, (1, 8, 9), ("K",))
    for k in (0, 5):
        assert np.abs(physical(source, k)[0] - FIELD[k]).max() < 1e-4
    patches = open_source(path, window=(4, 4))
    assert np.abs(physical(patches, 1)[0] - FIELD[0, :4, 4:8]).max() < 1e-4


@pytest.mark.parametrize("kind", STORES)
def test_packed_numbers_and_missing_ones(tmp_path, kind):
    field = FIELD.copy()
    field[2, 3, :4] = np.nan
    path = write(tmp_path, kind, data_set(field), dtype="int16", scale_factor=0.01,
                 add_offset=280.0, _FillValue=-32767)  # fmt: skip
    expected = xarray.open_dataset(path, engine=None if kind.startswith("nc") else "zarr")["t2m"]
    with pytest.raises(ValueError, match="NaN"):
        open_source(path)
    with pytest.warns(UserWarning, match="4 of 432 numbers are NaN and read as 273"):
        source = open_source(path, fill=273.15)
    found = np.stack([physical(source, k)[0] for k in range(6)])
    assert np.abs(found - np.nan_to_num(expected.values, nan=273.15)).max() < 1e-3


def test_channels_levels_and_classes(tmp_path):
    x = RANDOM.integers(0, 99, (4, 3, 8, 9)).astype(np.int16)
    data = xarray.Dataset(
        {"image": (("sample", "band", "y", "x"), x), "labels": ("sample", [2, 0, 1, 0])}
    )
    data.to_netcdf(tmp_path / "a.nc")
    source = open_source(tmp_path / "a.nc")
    assert (source.shape, source.bits, list(source.labels)) == ((3, 8, 9), 7, [2, 0, 1, 0])
    assert np.array_equal(source.read_many([2, 1]), x[[2, 1]])
    level = xarray.Dataset({"u": (("time", "level", "lat", "lon"), x.astype("f4"))})
    level.to_netcdf(tmp_path / "b.nc")
    assert open_source(tmp_path / "b.nc").shape == (1, 3, 8, 9)
    xarray.Dataset({"u": (("lat", "lon"), x[0, 0])}).to_netcdf(tmp_path / "c.nc")
    with pytest.raises(ValueError, match="axes lat, lon, none of which runs through items"):
        open_source(tmp_path / "c.nc")


def test_several_variables_and_groups(tmp_path):
    both = data_set().assign(u10=data_set()["t2m"] + 5)
    both.to_netcdf(tmp_path / "a.nc")
    both.to_netcdf(tmp_path / "a.nc", group="era", mode="a")
    with pytest.raises(ValueError, match=r"data\.column="):
        open_source(tmp_path / "a.nc")
    for column in ("u10", "era/u10"):
        source = open_source(tmp_path / "a.nc", column=column)
        assert np.abs(physical(source)[0] - FIELD[0] - 5).max() < 1e-4
    with pytest.raises(ValueError, match="has no array 'v'"):
        open_source(tmp_path / "a.nc", column="v")


def test_a_folder_of_files_is_an_item_each(tmp_path):
    for k in range(3):
        data_set(FIELD + k).to_netcdf(tmp_path / f"{k}.nc")
    source = open_source(tmp_path, layout="NDHW")
    assert (len(source), source.shape) == (3, (1, 6, 8, 9))
    assert np.abs(physical(source, 2)[0] - FIELD - 2).max() < 1e-4


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_zarr_without_names_of_axes(tmp_path, version):
    x = RANDOM.integers(0, 256, (5, 8, 9, 3)).astype(np.uint8)
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w", zarr_format=version)
    group.create_array("images", data=x, chunks=(2, 8, 9, 3))
    source = open_source(tmp_path / "a.zarr")
    assert source.shape == (3, 8, 9)
    assert np.array_equal(source.read_many([4, 0]), x.transpose(0, 3, 1, 2)[[4, 0]])
    zarr.save_array(str(tmp_path / "b.zarr"), x, zarr_format=version)
    assert np.array_equal(open_source(tmp_path / "b.zarr").read(3), x[3].transpose(2, 0, 1))


def test_pickled_chunks_are_refused(tmp_path):
    zarr.save_array(str(tmp_path / "a.zarr"), np.arange(12.0).reshape(3, 4), zarr_format=2)
    meta = json.loads((tmp_path / "a.zarr/.zarray").read_text())
    meta["filters"] = [{"id": "pickle", "protocol": 5}]
    (tmp_path / "a.zarr/.zarray").write_text(json.dumps(meta).replace("pickle", "\\u0070ickle"))
    with pytest.raises(ValueError, match="holds pickled Python objects, which are never loaded"):
        open_source(tmp_path / "a.zarr")


@pytest.mark.parametrize("kind", ["nc3", "nc4"])
@pytest.mark.parametrize("kept", [0, 0.3, 0.9])
def test_cut_files_are_one_sentence(tmp_path, kind, kept):
    path = write(tmp_path, kind, data_set())
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=r"a\.nc") as caught:
        open_source(path).read_many(range(6))
    assert "\n" not in str(caught.value)


def test_a_damaged_store_is_one_sentence(tmp_path):
    path = write(tmp_path, "zarr3", data_set())
    for chunk in (path / "t2m/c").rglob("*"):
        if chunk.is_file():
            chunk.write_bytes(b"xx")
    with pytest.raises(ValueError, match=r"a\.zarr is damaged in t2m") as caught:
        open_source(path)
    assert "\n" not in str(caught.value)
    (path / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"zarr\.json is damaged"):
        open_source(path)
