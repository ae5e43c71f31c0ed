"""Volumes of other formats than NIfTI, held against the libraries that wrote them."""

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from nibabel.freesurfer.mghformat import MGHImage

from iddpm.cli.main import run
from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source

RANDOM = np.random.default_rng(0)
VOXELS = RANDOM.integers(0, 200, (5, 6, 7))
AFFINE = np.array([[-2.0, 0, 0, 10], [0, 0, 3, -5], [0, -1.5, 0, 7], [0, 0, 0, 1]])


def stored(source, index=0):
    items = to_model_range(source.read_many([index]), source.bits)
    return source.form.values.restore(items)[0]


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "f4"])
@pytest.mark.parametrize("frames", [1, 3])
def test_mgh(tmp_path, suffix, kind, frames):
    voxels = VOXELS if frames == 1 else np.stack([VOXELS + k for k in range(frames)], -1)
    voxels = (voxels * (0.5 if kind == "f4" else 1)).astype(kind)
    for k in range(2):
        nibabel.save(MGHImage(voxels, AFFINE), tmp_path / f"{k}{suffix}")
    source = open_source(tmp_path)
    expected = voxels[None] if frames == 1 else np.moveaxis(voxels, -1, 0)
    assert source.shape == (frames, 5, 6, 7)
    assert np.abs(stored(source, 1) - expected).max() <= (1e-5 if kind == "f4" else 0)
    assert stored(source).dtype == kind
    assert np.allclose(source.form.affine, AFFINE)


@pytest.mark.parametrize(
    "make", [nibabel.Nifti1Pair, nibabel.AnalyzeImage, nibabel.Spm99AnalyzeImage]
)
def test_a_header_beside_the_voxels(tmp_path, make):
    for k in range(2):
        nibabel.save(make(VOXELS.astype(np.int16), np.diag([2.0, 3, 4, 1])), tmp_path / f"{k}.img")
    source = open_source(tmp_path)
    assert [source.key(k) for k in range(2)] == ["0.hdr", "1.hdr"]
    image = nibabel.load(tmp_path / "0.img")
    assert np.array_equal(stored(source)[0], image.get_fdata())
    assert np.allclose(source.form.affine, image.affine)
    content = (tmp_path / "0.img").read_bytes()
    (tmp_path / "0.img").write_bytes(content[:-9])
    with pytest.raises(ValueError, match=r"0\.hdr is truncated"):
        open_source(tmp_path)
    (tmp_path / "0.img").unlink()
    with pytest.raises(ValueError, match=r"0\.hdr is a header, and 0\.img .* missing"):
        open_source(tmp_path)


def minc(path, voxels, low=None, high=None):
    """A MINC-1 file: netCDF whose slices are scaled each by its own range."""
    from scipy.io import netcdf_file

    with netcdf_file(path, "w") as file:
        for name, length, step in zip("zyx", voxels.shape, (2.0, 3.0, 4.0), strict=True):
            file.createDimension(f"{name}space", length)
            axis = file.createVariable(f"{name}space", "i4", ())
            axis.step, axis.start, axis.spacing = step, -10.0, "regular__"
        image = file.createVariable("image", "i1", ("zspace", "yspace", "xspace"))
        image[:] = voxels.astype(np.uint8).view(np.int8)
        image.valid_range = np.array([0, 255], "f8")
        image.signtype = "unsigned"
        low, high = (0.0, 255.0) if low is None else (low, high)
        for name, values in (("image-min", low), ("image-max", high)):
            scale = file.createVariable(name, "f8", ("zspace",))
            scale[:] = values


def test_minc_scales_each_slice(tmp_path):
    low, high = np.arange(5) * 1.0, np.arange(5) + 40.0
    minc(tmp_path / "a.mnc", VOXELS, low, high)
    source = open_source(tmp_path / "a.mnc")
    expected = nibabel.load(tmp_path / "a.mnc").get_fdata()
    by_hand = VOXELS / 255 * (high - low)[:, None, None] + low[:, None, None]
    assert np.abs(expected - by_hand).max() < 1e-4
    assert np.abs(stored(source)[0] - expected).max() < 1e-4
    assert np.allclose(source.form.affine, nibabel.load(tmp_path / "a.mnc").affine)


def itk(path, voxels, **options):
    image = SimpleITK.GetImageFromArray(voxels, isVector=options.pop("vector", False))
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    image.SetDirection((0.0, 1, 0, 1, 0, 0, 0, 0, 1))
    SimpleITK.WriteImage(image, str(path), **options)


@pytest.mark.parametrize("suffix", [".nrrd", ".nhdr", ".mha", ".mhd"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_nrrd_and_metaimage(tmp_path, suffix, packed, kind):
    voxels = (VOXELS.astype(kind) * (0.5 if kind[0] == "f" else 1)).astype(kind)
    for k in range(2):
        itk(tmp_path / f"{k}{suffix}", voxels + k, useCompression=packed)
    source = open_source(tmp_path)
    assert source.shape == (1, 7, 6, 5)
    found = stored(source, 1)[0]
    assert np.abs(found - (voxels + 1).transpose(2, 1, 0)).max() <= (1e-4 if kind[0] == "f" else 0)
    # ITK's axes run to the left, the back and up, those of the affine to the right and the front.
    expected = [[0, -3, 0, -10], [-2, 0, 0, -20], [0, 0, 4, 30], [0, 0, 0, 1]]
    assert np.allclose(source.form.affine, expected)


def test_the_space_of_an_nrrd_is_that_of_its_nifti(tmp_path):
    itk(tmp_path / "a.nrrd", VOXELS.astype(np.int16))
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "a.nrrd")), str(tmp_path / "a.nii.gz"))
    one, other = open_source(tmp_path / "a.nrrd"), open_source(tmp_path / "a.nii.gz")
    assert np.allclose(one.form.affine, other.form.affine, atol=1e-5)
    assert np.array_equal(stored(one), stored(other))


def test_several_components_are_channels(tmp_path):
    voxels = RANDOM.integers(0, 99, (5, 6, 7, 3)).astype(np.uint8)
    itk(tmp_path / "a.nrrd", voxels, vector=True)
    source = open_source(tmp_path / "a.nrrd")
    assert source.shape == (3, 7, 6, 5)
    assert np.array_equal(source.read(0), voxels.transpose(3, 2, 1, 0))


def test_pictures_are_no_volumes(tmp_path):
    itk(tmp_path / "a.nrrd", VOXELS.astype(np.uint8))
    plane = SimpleITK.GetImageFromArray(VOXELS[..., :3].astype(np.uint8), isVector=True)
    for image in (SimpleITK.GetImageFromArray(VOXELS[0].astype(np.uint8)), plane):
        SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
        with pytest.raises(ValueError, match="holds a picture of 2 axes"):
            open_source(tmp_path / "a.mha")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("data file: a.raw", "data file: ../a.raw", r"takes its voxels from \.\./a\.raw: put"),
        ("data file: a.raw", "data file: /etc/passwd", "put that file beside it"),
        ("data file: a.raw", "data file: gone.raw", "gone.raw, which is missing"),
        ("data file: a.raw", "data file: LIST\na.raw", "from several files"),
        ("sizes: 7 6 5", "sizes: 7000 6000 5000", "is truncated: its header promises"),
        ("sizes: 7 6 5", "sizes: 7 6", "a.nhdr"),
        ("dimension: 3", "dimension: 2", "a.nhdr"),
        ("NRRD0004", "NRRX0004", "a.nhdr is not a volume"),
    ],
)
def test_hostile_headers(tmp_path, old, new, message):
    itk(tmp_path / "a.nhdr", VOXELS.astype(np.uint8), useCompression=False)
    text = (tmp_path / "a.nhdr").read_text()
    assert old in text, text
    (tmp_path / "a.nhdr").write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=message) as caught:
        open_source(tmp_path / "a.nhdr").read(0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mgz", ".mgh"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.97])
@pytest.mark.parametrize("packed", [False, True])
def test_damaged_files_are_left_out(tmp_path, suffix, kept, packed):
    for k in range(3):
        path = tmp_path / f"{k}{suffix}"
        if suffix.startswith(".mg"):
            nibabel.save(MGHImage(VOXELS.astype(np.int16), AFFINE), path)
        else:
            itk(path, VOXELS.astype(np.int16), useCompression=packed)
    content = (tmp_path / "1.mgz" if suffix == ".mgz" else tmp_path / f"1{suffix}").read_bytes()
    (tmp_path / f"1{suffix}").write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ValueError, match=rf"1{suffix}") as caught:
        open_source(tmp_path).read_many(range(3))
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=rf"skipped 1 of 3 files .*1{suffix}"):
        assert len(open_source(tmp_path, corrupt="skip")) == 2


def test_a_huge_header_of_mgz_is_refused(tmp_path):
    nibabel.save(MGHImage(VOXELS.astype(np.int16), AFFINE), tmp_path / "a.mgh")
    content = bytearray((tmp_path / "a.mgh").read_bytes())
    content[4:16] = np.array([5000, 6000, 7000], ">i4").tobytes()
    (tmp_path / "a.mgz").write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"a\.mgz is truncated: its header promises 420000000000"):
        open_source(tmp_path / "a.mgz")


def test_samples_are_written_with_the_affine(tmp_path, tiny):
    voxels = RANDOM.integers(0, 200, (8, 8, 8)).astype(np.uint8)
    for k in range(10):
        itk(tmp_path / f"{k}.nrrd", voxels + k)
    settings = [w for s in tiny for w in ("-s", s)]
    out = str(tmp_path / "run")
    assert run(["train", str(tmp_path), *settings, "--steps", "1", "--out", out]) == 0
    assert run(["sample", out, "-n", "1", "--steps", "2"]) == 0
    image = nibabel.load(next((tmp_path / "run").rglob("000000.nii.gz")))
    assert image.shape == (8, 8, 8)
    assert np.allclose(image.affine[0], [0, -3, 0, -10])


SHIPPED = Path(nibabel.__file__).parent / "tests/data"


@pytest.mark.parametrize(
    "file",
    ["minc1_1_scale.mnc", "minc1_4d.mnc", "minc1-no-att.mnc", "minc2_1_scale.mnc", "minc2_4d.mnc",
     "minc2-4d-d.mnc", "small.mnc", "tiny.mnc", "test.mgz", "example_nifti2.nii.gz"],
)  # fmt: skip
def test_files_that_nibabel_ships(file):
    image = nibabel.load(SHIPPED / file)
    expected = image.get_fdata()
    expected = expected[None] if expected.ndim == 3 else np.moveaxis(expected, -1, 0)
    source = open_source(SHIPPED / file)
    assert np.abs(stored(source) - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.allclose(source.form.affine, image.affine)
