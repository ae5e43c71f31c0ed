"""NIfTI files from hand-made bytes, held against what the standard says and against nibabel."""

import gzip
import struct

import nibabel
import numpy as np
import pytest

from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source
from iddpm.data.sources.volumes import left_right_axis, orientation

CODES = {"u1": 2, "i2": 4, "i4": 8, "f4": 16, "f8": 64, "i1": 256, "u2": 512, "u4": 768}
STORED = np.arange(24).reshape(2, 3, 4)  # [x, y, z]


def nifti_bytes(stored, *, kind="i2", order="<", slope=1.0, inter=0.0, start=352, version=1):
    """A NIfTI file, written field by field after nifti1.h and nifti2.h."""
    shape = list(stored.shape)
    code, bits = CODES[kind], 8 * int(kind[1])
    dim = [len(shape), *shape, *[1] * (7 - len(shape))]
    rows = np.diag([2.0, 3.0, 4.0, 1.0])[:3].ravel()
    spacing = [1, 2, 3, 4, 1, 1, 1, 1]
    if version == 1:
        header = bytearray(348)
        put = {
            0: ("i", [348]), 40: ("8h", dim), 70: ("2h", [code, bits]), 76: ("8f", spacing),
            108: ("3f", [start, slope, inter]), 254: ("h", [1]), 280: ("12f", rows),
        }  # fmt: skip
        header[344:348] = b"n+1\0"
    else:
        start = max(start, 544)
        header = bytearray(540)
        put = {
            0: ("i", [540]), 12: ("2h", [code, bits]), 16: ("8q", dim), 104: ("8d", spacing),
            168: ("q", [start]), 176: ("2d", [slope, inter]), 348: ("i", [1]), 400: ("12d", rows),
        }  # fmt: skip
        header[4:12] = b"n+2\0\r\n\x1a\n"
    for place, (form, numbers) in put.items():
        struct.pack_into(order + form, header, place, *numbers)
    voxels = stored.astype(order + kind).tobytes(order="F")
    return bytes(header).ljust(start, b"\0") + voxels


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("kind", "slope", "inter", "factor", "offset"),
    [
        ("i2", 0.5, -10, 0.5, -10),
        ("i2", 3, 7, 3, 7),
        ("u1", 1, -1024, 1, -1024),
        ("u2", -2, 0, -2, 0),
        ("f4", 4, 1, 4, 1),
        ("i2", 1, 0, 1, 0),
        ("i2", 0, 10, 1, 0),  # a slope of 0 means none, and then no intercept either
        ("i2", np.nan, 10, 1, 0),
        ("i2", 0, np.nan, 1, 0),
    ],
)
def test_slope_and_intercept(tmp_path, suffix, order, version, kind, slope, inter, factor, offset):
    content = nifti_bytes(STORED, kind=kind, order=order, slope=slope, inter=inter, version=version)
    path = tmp_path / f"scan{suffix}"
    path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
    expected = STORED * factor + offset
    assert np.array_equal(nibabel.load(path).get_fdata(), expected)
    source = open_source(path)
    item = source.form.values.restore(as_model(source))[0]
    np.testing.assert_allclose(item, expected, rtol=1e-6, atol=1e-5)
    scaled = (factor, offset) != (1, 0)
    assert item.dtype == (np.float32 if scaled else np.dtype(kind))
    if scaled:
        values = source.form.values
        assert (values.low, values.high) == (expected.min(), expected.max())


def as_model(source, index=0):
    return to_model_range(source.read_many([index]), source.bits)[0]


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_files_of_differing_slopes_are_in_one_unit(tmp_path, suffix):
    for name, slope, inter in (("a", 1, 0), ("b", 0.25, -4), ("c", 2, 10)):
        content = nifti_bytes((STORED - inter) / slope, kind="i2", slope=slope, inter=inter)
        if name == "c":  # where the numbers are not whole
            content = nifti_bytes((STORED - inter) / slope, kind="f4", slope=slope, inter=inter)
        content = gzip.compress(content) if suffix == ".nii.gz" else content
        (tmp_path / f"{name}{suffix}").write_bytes(content)
    source = open_source(tmp_path)
    assert (source.form.values.low, source.form.values.high) == (0, 23)
    items = source.read_many([0, 1, 2])
    assert np.array_equal(items[0], items[1])
    np.testing.assert_allclose(items[0], items[2], atol=1e-6)


def test_a_slope_with_an_intercept_that_is_no_number_is_refused(tmp_path):
    (tmp_path / "a.nii").write_bytes(nifti_bytes(STORED, slope=2, inter=np.nan))
    with pytest.raises(ValueError, match=r"a\.nii .*invalid intercept"):
        open_source(tmp_path / "a.nii")


def test_bytes_before_the_voxels_and_a_channel_axis(tmp_path):
    stored = np.arange(48).reshape(2, 3, 4, 2)
    (tmp_path / "a.nii").write_bytes(nifti_bytes(stored, start=400))
    source = open_source(tmp_path / "a.nii")
    item = source.form.values.restore(as_model(source))
    assert np.array_equal(item, np.moveaxis(stored, -1, 0))


@pytest.mark.parametrize(
    ("directions", "axis"),
    [
        ("RAS", 0), ("LPI", 0), ("ASR", 2), ("PIR", 2), ("SRA", 1), ("ILP", 1),
    ],
)  # fmt: skip
@pytest.mark.parametrize("turn", [0, 0.3, -0.4])
def test_left_and_right_lie_along_the_axis_that_the_affine_says(directions, axis, turn):
    world = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1),
             "I": (0, 0, -1)}  # fmt: skip
    affine = np.eye(4)
    affine[:3, :3] = np.array([world[d] for d in directions]).T * (2, 0.5, 3)
    turned = np.eye(4)  # oblique: about the axis from back to front
    turned[0, 0] = turned[2, 2] = np.cos(turn)
    turned[0, 2], turned[2, 0] = np.sin(turn), -np.sin(turn)
    assert orientation(turned @ affine) == tuple(directions)
    assert left_right_axis(turned @ affine) == axis


def test_an_affine_that_says_nothing_is_refused():
    with pytest.raises(ValueError, match="does not say where axes run"):
        left_right_axis(np.zeros((4, 4)))
