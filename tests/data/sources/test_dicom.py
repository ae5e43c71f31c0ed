"""DICOM files of pydicom, and such as it writes, value for value against pydicom."""

import shutil
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source
from iddpm.data.writers.data_files import save_files

RANDOM = np.random.default_rng(0)


def write(path: Path, stored: np.ndarray, **fields) -> Dataset:
    """A file by pydicom, [H, W], [H, W, 3] or of frames [T, H, W] where their number is given."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID = meta.MediaStorageSOPClassUID
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.Modality = "CT"
    dataset.PatientID = "p1"
    dataset.SeriesInstanceUID = "1.2.3"
    dataset.SamplesPerPixel = 3 if stored.shape[-1] == 3 and stored.ndim > 2 else 1
    dataset.PhotometricInterpretation = "RGB" if dataset.SamplesPerPixel == 3 else "MONOCHROME2"
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    space = stored.shape[:-1] if dataset.SamplesPerPixel == 3 else stored.shape
    dataset.Rows, dataset.Columns = space[-2:]
    dataset.BitsAllocated = dataset.BitsStored = 8 * stored.dtype.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(stored.dtype.kind == "i")
    for name, value in fields.items():
        setattr(dataset, name, value)
    dataset.PixelData = stored.astype(stored.dtype.newbyteorder("<")).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return dataset


def series(folder: Path, heights, *, size=(5, 4), slope=1, intercept=-1024, **fields):
    """Slices whose names are in no order; the numbers that are meant, [slices, H, W]."""
    heights = np.asarray(heights, float)
    stored = RANDOM.integers(0, 4000, (len(heights), *size)).astype(np.uint16)
    for k, name in enumerate(RANDOM.permutation(len(heights))):
        write(
            folder / f"{name:03d}.dcm",
            stored[k],
            **{
                "BitsStored": 12,
                "HighBit": 11,
                "RescaleSlope": slope,
                "RescaleIntercept": intercept,
                "ImagePositionPatient": [-10.0, 20.0, float(heights[k])],
                "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
                "PixelSpacing": [0.5, 0.75],
                **fields,
            },
        )
    return stored.astype(np.float64)[np.argsort(heights)] * slope + intercept


def numbers(source, index=0):
    """An item in the numbers that are meant."""
    x = to_model_range(source.read_many([index]), source.bits)
    return source.form.values.restore(x)[0]


def test_slices_are_a_volume_in_the_order_of_their_positions(tmp_path):
    wanted = series(tmp_path / "a", [7, 1, 4, 10])
    source = open_source(tmp_path / "a")
    assert (source.shape, len(source), source.form.kind) == ((1, 4, 5, 4), 1, "volume")
    assert (numbers(source)[0] == wanted).all()
    assert source.form.values.dtype == "int16"
    # From slice, row and column to mm right, front and up.
    affine = np.array(source.form.affine)
    assert affine @ [0, 0, 0, 1] == pytest.approx([10, -20, 1, 1])
    assert affine @ [1, 0, 0, 1] == pytest.approx([10, -20, 4, 1])
    assert affine @ [0, 1, 0, 1] == pytest.approx([10, -20.5, 1, 1])
    assert affine @ [0, 0, 1, 1] == pytest.approx([9.25, -20, 1, 1])


def test_a_series_is_where_itk_has_it_with_the_same_numbers(tmp_path):
    oblique = [0.8, 0.6, 0, 0, 0, -1]
    wanted = series(tmp_path / "a", [7, 1, 4, 10])
    for path in (tmp_path / "a").iterdir():
        dataset = pydicom.dcmread(path)
        height = float(dataset.ImagePositionPatient[2])
        place = np.array([3.0, -5, 8]) + height * np.cross(oblique[:3], oblique[3:])
        dataset.ImagePositionPatient = [float(f"{part:.6f}") for part in place]
        dataset.ImageOrientationPatient = oblique
        dataset.save_as(path)
    source = open_source(tmp_path / "a")
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "a"))
    image = SimpleITK.ReadImage(names)
    assert (numbers(source)[0] == SimpleITK.GetArrayFromImage(image)).all()
    assert (numbers(source)[0] == wanted).all()
    for k, row, column in ((0, 0, 0), (3, 0, 0), (0, 4, 0), (1, 2, 3)):
        right, front, up, _ = np.array(source.form.affine) @ [k, row, column, 1]
        there = image.TransformIndexToPhysicalPoint((column, row, k))
        assert [-right, -front, up] == pytest.approx(there, abs=1e-4)


def test_samples_are_nifti_files_that_lie_where_the_series_does(tmp_path):
    series(tmp_path / "a", [7, 1, 4, 10])
    source = open_source(tmp_path / "a")
    x = to_model_range(source.read_many([0]), source.bits)
    save_files(x, tmp_path / "out", source.form)
    again = open_source(
        tmp_path / "out", value_range=(source.form.values.low, source.form.values.high)
    )
    assert again.form == source.form
    assert (again.read(0) == source.read(0)).all()


def test_a_slope_that_is_not_whole_gives_floats_by_each_slice(tmp_path):
    wanted = series(tmp_path / "a", [0, 2, 4], slope=0.25, intercept=1.5)
    one = pydicom.dcmread(tmp_path / "a/000.dcm")
    one.RescaleSlope = 0.5
    one.save_as(tmp_path / "a/000.dcm")
    height = int(one.ImagePositionPatient[2]) // 2
    wanted[height] = (wanted[height] - 1.5) * 2 + 1.5
    source = open_source(tmp_path / "a")
    assert source.bits is None
    assert np.abs(numbers(source)[0] - wanted).max() < 1e-3


def test_patients_are_groups_and_their_folders_no_classes(tmp_path):
    for patient in "abc":
        for scan in "12":
            series(tmp_path / f"{patient}/{scan}", [0, 1, 2], PatientID=patient)
    with pytest.warns(UserWarning, match="each folder of .* is a patient"):
        source = open_source(tmp_path)
    assert len(source) == 6
    assert [source.group(k) for k in range(6)] == list("aabbcc")
    assert source.labels is None
    assert open_source(tmp_path, labels="folder").class_names == ("a", "b", "c")
    windows = open_source(tmp_path, window=(2, 3, 3), labels="none")
    assert {windows.group(k) for k in range(len(windows))} == set("abc")


def test_folders_of_several_patients_are_classes(tmp_path):
    for kind, patient in (("ill", "a"), ("ill", "b"), ("well", "c"), ("well", "d")):
        series(tmp_path / kind / patient, [0, 1, 2], PatientID=patient)
    source = open_source(tmp_path)
    assert (source.labels.tolist(), source.class_names) == ([0, 0, 1, 1], ("ill", "well"))


def test_several_series_in_a_folder_are_listed_and_one_can_be_chosen(tmp_path):
    first = series(tmp_path / "a", [0, 1, 2], SeriesNumber=4, SeriesDescription="T1")
    for path in (tmp_path / "a").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    series(
        tmp_path / "a",
        [0, 3, 6, 9],
        SeriesNumber=7,
        SeriesDescription="T2",
        SeriesInstanceUID="1.9",
    )
    with pytest.raises(ValueError, match=r"holds 2 series: .*'4 T1' \(CT, 3 files\).*column=") as e:
        open_source(tmp_path / "a")
    assert "\n" not in str(e.value)
    for name in ("4", "T1", "1.2.3"):
        source = open_source(tmp_path / "a", column=name)
        assert (numbers(source)[0] == first).all()
    assert open_source(tmp_path / "a", column="T2").shape == (1, 4, 5, 4)
    with pytest.raises(ValueError, match=r"no series called T3: it holds .*T1.*T2"):
        open_source(tmp_path / "a", column="T3")


@pytest.mark.parametrize(
    ("heights", "fields", "message"),
    [
        ([0, 1, 2, 4], {}, r"lacks slices: \d+\.dcm and \d+\.dcm are 2 mm apart, others 1 mm"),
        ([0, 1, 1, 2], {}, "several slices at one position"),
    ],
)
def test_what_is_no_whole_volume_is_refused_or_left_out(heights, fields, message, tmp_path):
    series(tmp_path / "a", heights, PatientID="a", **fields)
    series(tmp_path / "b", [0, 1, 2, 3], PatientID="b")
    with pytest.raises(ValueError, match=message):
        open_source(tmp_path)
    with pytest.warns(UserWarning, match=rf"skipped 1 of 2 files .*\(a\), first: .*{message}"):
        assert len(open_source(tmp_path, corrupt="skip", labels="none")) == 1


def test_reports_beside_images_are_left_out_and_said(tmp_path):
    wanted = series(tmp_path / "a", [0, 1, 2])
    shutil.copy(get_testdata_file("reportsi.dcm", download=False), tmp_path / "a/report.dcm")
    with pytest.warns(
        UserWarning, match=r"skipped 1 DICOM files .* without pixels, such as a/repo"
    ):
        source = open_source(tmp_path)
    assert (numbers(source)[0] == wanted).all()
    with pytest.raises(ValueError, match="is a DICOM file without pixels, such as a report"):
        open_source(tmp_path / "a/report.dcm")


def test_a_damaged_slice_takes_its_series_along(tmp_path):
    """Also at an end, where no gap would tell that it is missing."""
    for patient in "ab":
        series(tmp_path / patient, [0, 1, 2, 3], PatientID=patient)
    last = max((tmp_path / "a").iterdir(), key=lambda p: pydicom.dcmread(p).ImagePositionPatient[2])
    last.write_bytes(last.read_bytes()[:200])
    with pytest.warns(UserWarning, match=r"skipped 2 of 3 files and series .*a/00\d\.dcm, a\)"):
        source = open_source(tmp_path, corrupt="skip", labels="none")
    assert [source.key(k) for k in range(len(source))] == ["b"]


def test_slices_that_differ_are_refused(tmp_path):
    series(tmp_path / "a", [0, 1, 2])
    write(tmp_path / "a/9.dcm", np.zeros((6, 4), np.uint16), ImagePositionPatient=[0, 0, 3],
          ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PixelSpacing=[1, 1])  # fmt: skip
    with pytest.raises(ValueError, match=r"slices that differ in size: .*\(5, 4\).*\(6, 4\)"):
        open_source(tmp_path / "a")
    (tmp_path / "a/9.dcm").unlink()
    write(tmp_path / "a/9.dcm", np.zeros((5, 4), np.uint16), ImagePositionPatient=[0, 0, 3],
          ImageOrientationPatient=[0, 1, 0, 0, 0, 1], PixelSpacing=[1, 1])  # fmt: skip
    with pytest.raises(ValueError, match="slices of several orientations"):
        open_source(tmp_path / "a")


def test_pictures_are_items_by_themselves(tmp_path):
    x = RANDOM.integers(0, 900, (3, 6, 5)).astype(np.uint16)
    for k in range(3):
        write(tmp_path / f"{k}.dcm", x[k], Modality="DX", PatientID=f"p{k // 2}")
    source = open_source(tmp_path)
    assert (source.shape, len(source), source.form.kind) == ((1, 6, 5), 3, "raster")
    assert [source.group(k) for k in range(3)] == ["p0", "p0", "p1"]
    for k in range(3):
        assert (numbers(source, k)[0] == x[k]).all()
    assert open_source(tmp_path, image_size=4).shape == (1, 4, 4)
    one = open_source(tmp_path / "2.dcm")
    assert (numbers(one)[0] == x[2]).all()


def test_files_of_old_programs_without_a_mark_or_a_suffix(tmp_path):
    x = RANDOM.integers(0, 900, (6, 5)).astype(np.uint16)
    dataset = write(tmp_path / "a.dcm", x)
    del dataset.file_meta
    with (tmp_path / "a.dcm").open("wb") as file:
        pydicom.dcmwrite(
            file, dataset, implicit_vr=True, little_endian=True, enforce_file_format=False
        )
    assert (tmp_path / "a.dcm").read_bytes()[128:132] != b"DICM"
    assert (numbers(open_source(tmp_path / "a.dcm"))[0] == x).all()


def test_folders_of_a_disc_whose_files_have_no_suffix(tmp_path):
    """As scanners write them: an index beside folders of series."""
    disc = Path(get_testdata_file("CT_small.dcm", download=False)).parent / "dicomdirtests"
    shutil.copytree(disc / "98892001/CT5N", tmp_path / "disc/CT5N")
    shutil.copy(disc / "DICOMDIR", tmp_path / "disc")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        source = open_source(tmp_path / "disc")
    assert source.shape == (1, 5, 16, 16)
    files = [pydicom.dcmread(path) for path in (tmp_path / "disc/CT5N").iterdir()]
    files.sort(key=lambda file: float(file.ImagePositionPatient[2]))
    wanted = np.stack([file.pixel_array * file.RescaleSlope + file.RescaleIntercept
                       for file in files])  # fmt: skip
    assert (numbers(source)[0] == wanted).all()
    for number, file in enumerate(files):
        right, front, up, _ = np.array(source.form.affine) @ [number, 0, 0, 1]
        place = list(map(float, file.ImagePositionPatient))
        assert [-right, -front, up] == pytest.approx(place, abs=1e-3)
    one = open_source(next((tmp_path / "disc/CT5N").iterdir()))
    assert (one.form.kind, one.shape) == ("raster", (1, 16, 16))
    for series, said in (("CT2", "lacks slices"), ("../98892003/MR700", "several orientations")):
        with pytest.raises(ValueError, match=said):
            open_source(disc / "77654033" / series)


def test_white_and_black(tmp_path):
    x = RANDOM.integers(0, 4096, (2, 6, 5)).astype(np.uint16)
    twelve = {"BitsStored": 12, "HighBit": 11, "Modality": "CR"}
    write(tmp_path / "0.dcm", x[0], PhotometricInterpretation="MONOCHROME1", **twelve)
    with pytest.warns(UserWarning, match="low numbers are bright .*read as they are stored"):
        assert (numbers(open_source(tmp_path))[0] == x[0]).all()
    write(tmp_path / "1.dcm", x[1], **twelve)
    with pytest.warns(UserWarning, match=r"in 1 of 2 .*: these are inverted"):
        source = open_source(tmp_path)
    assert (numbers(source, 0)[0] == 4095 - x[0].astype(int)).all()
    assert (numbers(source, 1)[0] == x[1]).all()


def test_signed_numbers_colors_and_frames(tmp_path):
    signed = RANDOM.integers(-900, 900, (6, 5)).astype(np.int16)
    write(tmp_path / "s/a.dcm", signed)
    assert (numbers(open_source(tmp_path / "s"))[0] == signed).all()
    color = RANDOM.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    write(tmp_path / "c/a.dcm", color, Modality="XC")
    source = open_source(tmp_path / "c")
    assert (source.shape, source.form.encoding) == ((3, 6, 5), "rgb")
    assert (source.read(0) == np.moveaxis(color, -1, 0)).all()
    frames = RANDOM.integers(0, 256, (4, 6, 5)).astype(np.uint8)
    write(tmp_path / "f/a.dcm", frames, NumberOfFrames=4, Modality="US")
    source = open_source(tmp_path / "f", window=(2, 6, 5))
    assert len(source) == 2
    assert (source.read(1)[0] == frames[2:]).all()


def test_frames_of_one_file_are_sorted_by_their_own_places(tmp_path):
    """As enhanced CT and MR have them: facts of all frames, and of each."""
    heights = [6.0, 0.0, 3.0]
    frames = RANDOM.integers(0, 900, (3, 6, 5)).astype(np.uint16)
    groups = []
    for number, height in enumerate(heights):
        place, line = Dataset(), Dataset()
        place.ImagePositionPatient = [1.0, 2.0, height]
        line.RescaleSlope, line.RescaleIntercept = 1, number
        group = Dataset()
        group.PlanePositionSequence = [place]
        group.PixelValueTransformationSequence = [line]
        groups.append(group)
    turn, measure, shared = Dataset(), Dataset(), Dataset()
    turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    measure.PixelSpacing = [0.5, 0.25]
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [turn], [measure]
    write(tmp_path / "a.dcm", frames, NumberOfFrames=3, Modality="MR",
          SharedFunctionalGroupsSequence=[shared],
          PerFrameFunctionalGroupsSequence=groups)  # fmt: skip
    source = open_source(tmp_path)
    wanted = (frames + np.arange(3)[:, None, None])[[1, 2, 0]]
    assert (numbers(source)[0] == wanted).all()
    spacing = np.linalg.norm(np.array(source.form.affine)[:3, :3], axis=0)
    assert spacing == pytest.approx([3, 0.5, 0.25])
    assert np.array(source.form.affine)[:3, 3] == pytest.approx([-1, -2, 0])


def test_bits_beyond_those_that_are_stored_are_no_part_of_a_number(tmp_path):
    x = RANDOM.integers(0, 4096, (6, 5)).astype(np.uint16)
    x[2, 2] = 65_000
    twelve = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024}
    write(tmp_path / "a.dcm", x, **twelve)
    seen = pydicom.dcmread(tmp_path / "a.dcm").pixel_array.astype(int) - 1024
    assert (numbers(open_source(tmp_path))[0] == seen).all()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["gdcm - requires gdcm", "pillow - x"], r"needs gdcm: pip install 'iddpm\[dicom\]'"),
        (["pylibjpeg - requires pylibjpeg"], "needs one of: pylibjpeg - requires pylibjpeg"),
    ],
)
def test_what_decodes_a_compression_is_said(missing, said, tmp_path, monkeypatch):
    shutil.copy(get_testdata_file("JPEG2000.dcm", download=False), tmp_path)
    decoder = SimpleNamespace(is_available=False, missing_dependencies=missing)
    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda uid: decoder)
    with pytest.raises(ValueError, match=rf"compressed by JPEG 2000 .*{said}"):
        open_source(tmp_path)


def test_promises_and_damage_get_one_sentence(tmp_path):
    x = RANDOM.integers(0, 900, (6, 5)).astype(np.uint16)
    path = tmp_path / "a.dcm"
    write(path, x)
    content = path.read_bytes()
    for name, value, said in (
        ("Rows", 60_000, r"a\.dcm (has|is truncated)"),
        ("NumberOfFrames", "9999999", r"a\.dcm promises 9999999 frames"),
        ("BitsAllocated", 64, r"a\.dcm is (truncated|damaged)"),
    ):
        dataset = pydicom.dcmread(path)
        if name == "Rows":
            dataset.Columns = value
        setattr(dataset, name, value)
        dataset.save_as(tmp_path / "a.dcm")
        with pytest.raises(ValueError, match=said) as caught:
            open_source(path).read(0)
        assert "\n" not in str(caught.value)
        path.write_bytes(content)
    for kept in (0, 10, 140, 300, len(content) - 10):
        path.write_bytes(content[:kept])
        with pytest.raises(ValueError, match=r"a\.dcm is (empty|not a DICOM|damaged|truncated)"):
            open_source(path).read(0)


SHIPPED = (
    "CT_small.dcm", "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm",
    "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
    "JPEG2000.dcm", "J2K_pixelrep_mismatch.dcm",
    "JPEGLSNearLossless_16.dcm", "SC_rgb_rle_2frame.dcm", "SC_rgb_rle_16bit.dcm",
    "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_jls_lossy_line.dcm", "SC_rgb_small_odd.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_gdcm_KY.dcm", "examples_palette.dcm",
    "examples_ybr_color.dcm", "examples_overlay.dcm", "rtdose.dcm", "rtdose_rle_1frame.dcm",
    "liver_1frame.dcm", "SC_ybr_full_422_uncompressed.dcm",
)  # fmt: skip


def by_library(path):
    """Frames [T, H, W(, 3)] in the numbers that are meant, by pydicom alone."""
    dataset = pydicom.dcmread(path, force=True)
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        plain = pydicom.uid.ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        dataset.file_meta.TransferSyntaxUID = plain
    stored = dataset.pixel_array
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        stored = pydicom.pixels.apply_color_lut(stored, dataset)
    elif "DoseGridScaling" in dataset:
        stored = stored * float(dataset.DoseGridScaling)
    elif "RescaleSlope" in dataset or "ModalityLUTSequence" in dataset:
        stored = pydicom.pixels.apply_modality_lut(stored, dataset)
    return stored if int(dataset.get("NumberOfFrames") or 1) > 1 else stored[None]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SHIPPED)
def test_files_that_pydicom_ships_are_read_as_it_reads_them(name, tmp_path):
    shipped = get_testdata_file(name, download=False)
    assert shipped is not None
    shutil.copy(shipped, tmp_path / name)
    wanted = by_library(tmp_path / name)
    source = open_source(tmp_path / name)
    found = numbers(source)
    found = found if found.ndim == 4 else found[:, None]
    wanted = np.moveaxis(wanted, -1, 0) if source.shape[0] == 3 else wanted[None]
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max()))
    assert np.abs(found - wanted.astype(np.float64)).max() <= (
        1e-6 * scale if source.bits is None else 0
    )
