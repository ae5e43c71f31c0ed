"""Every row of the tables of what goes in and what comes out: looked at, trained on, drawn."""

import gzip
import re
import shutil
import zipfile
from collections.abc import Callable
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple

import h5py
import imagecodecs
import nibabel
import numpy as np
import pytest
import scipy.io
import soundfile
import tifffile
import wfdb
import xarray
from nibabel.freesurfer.mghformat import MGHImage
from PIL import Image

import iddpm
from iddpm.builders import form_of, values_of
from iddpm.cli.main import run as command
from iddpm.data.file_format import Form
from iddpm.data.levels import to_model_range
from iddpm.data.sources.open import open_source
from iddpm.data.values import Values
from iddpm.data.writers.sound_files import write_edf
from tests.conftest import TINY
from tests.data.sources.test_dicom import series as slices
from tests.data.sources.test_dicom import write as dicom
from tests.data.sources.test_idx import idx_bytes
from tests.data.sources.test_other_volumes import itk, minc
from tests.data.sources.test_shards import picture, shards
from tests.data.sources.test_tables import CLASS, parquet, pictures, saved, write
from tests.data.sources.test_videos import write as video

ROOT = Path(__file__).parents[1]
TABLES = {"docs/formats.md": "input", "docs/data.md": "DATA"}
"""Documents and the first heading of the table in each."""
ELSEWHERE = "sounds, series, HDF5, volumes, clips, stacks"
"""A row that is a reference to the other document."""
COUNT = 12
RANDOM = np.random.default_rng(0)


class Case(NamedTuple):
    """Data of one row.

    Attributes:
        make: writes it into a folder and returns what a user would give.
        written: what ``iddpm sample`` writes, as a pattern of file names.
        settings: how the data is read, and whether classes are learned.
        again: the settings with which what was written is opened.
        off: how far floats that were written may be off, in units of [-1, 1].
    """

    make: Callable[[Path], Path | str]
    written: str
    settings: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    off: float = 1e-5


def levels(*shape, dtype=np.uint8, low=0, high=256):
    return RANDOM.integers(low, high, (COUNT, *shape)).astype(dtype)


def in_folders(write: Callable[[Path, int], None], suffix: str) -> Callable[[Path], Path]:
    """Files in two folders, which are their classes."""

    def make(folder: Path) -> Path:
        for number in range(COUNT):
            path = folder / f"data/{'ab'[number % 2]}/{number}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, number)
        return folder / "data"

    return make


def of_pictures(*shape, dtype=np.uint8, suffix=".png", high=256):
    stored = levels(*shape, dtype=dtype, high=high)
    return in_folders(lambda path, n: Image.fromarray(stored[n]).save(path), suffix)


def of_arrays(name: str, stored, **more) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / name
        if path.suffix == ".npy":
            np.save(path, stored)
        elif path.suffix == ".npz":
            np.savez(path, arr_0=stored, **more)
        else:
            with h5py.File(path, "w") as file:
                for key, values in {"data": stored, **more}.items():
                    file[key] = values
        return path

    return make


def of_sounds(coding: str, suffix: str, alone: bool = False, rate: int = 8000):
    kind = {".ogg": "OGG", ".opus": "OGG"}.get(suffix)

    def write(path: Path, number: int) -> None:
        tone = np.sin(np.arange(16 * COUNT if alone else 16) / (3 + number)) * 0.5
        soundfile.write(path, np.stack([tone, -tone], 1), rate, subtype=coding, format=kind)

    return one(write, suffix) if alone else in_folders(write, suffix)


LOSSY = {".mp3": "MPEG_LAYER_III", ".ogg": "VORBIS", ".opus": "OPUS"}


def of_series_of_slices(folder: Path) -> Path:
    for number in range(COUNT):
        place = folder / f"data/{'ab'[number % 2]}/{number}"
        slices(place, [0, 2, 4], size=(8, 8), PatientID=f"p{number}")
    return folder / "data"


def of_single_dicom(folder: Path) -> Path:
    stored = levels(8, 6, dtype=np.int16, low=-900, high=900)
    for number in range(COUNT):
        dicom(folder / f"data/{number}.dcm", stored[number], SeriesInstanceUID=f"1.{number}")
    return folder / "data"


def of_videos(suffix: str, codec: str, pixels: str) -> Callable[[Path], Path]:
    stored = levels(3, 8, 6, 3)
    return in_folders(lambda path, n: video(path, stored[n], codec, pixels), suffix)


def of_deep(suffix: str, encode: Callable[[np.ndarray], bytes]) -> Callable[[Path], Path]:
    stored = levels(8, 6, 3, dtype=np.uint16, high=65536)
    return in_folders(lambda path, n: path.write_bytes(encode(stored[n])), suffix)


def of_volumes(dtype, suffix: str, alone: bool = False):
    stored = RANDOM.integers(-40, 900, (COUNT, 12 if alone else 3, 8, 8)).astype(dtype)
    affine = np.diag([2.0, 1.5, 3, 1])

    def write(path: Path, number: int) -> None:
        nibabel.save(nibabel.Nifti1Image(stored[number], affine), path)

    return one(write, suffix) if alone else in_folders(write, suffix)


def of_clips(*shape, dtype=np.uint8, suffix=".gif", alone=False, high=256):
    """Clips of 3 frames, 12 in one file; a suffix without a dot names the frames in folders."""
    stored = levels(12 if alone else 3, *shape, dtype=dtype, high=high)

    def write(path: Path, number: int) -> None:
        first, *others = images = [Image.fromarray(frame) for frame in stored[number]]
        if path.suffix in (".gif", ".webp"):
            more = {"lossless": True} if path.suffix == ".webp" else {}
            first.save(path, save_all=True, append_images=others, duration=90, **more)
        elif path.suffix:
            first.save(path, save_all=True, append_images=others)
        else:
            path.mkdir()
            for place, image in enumerate(images):
                image.save(path / f"frame{place + 9}.png")

    return one(write, suffix) if alone else in_folders(write, suffix)


def of_rasters(*shape, dtype, pages=1):
    """TIFF files of numbers; of several pages one."""
    low, high = (-300, 300) if np.dtype(dtype).kind in "if" else (0, 250)
    stored = RANDOM.integers(low, high, (COUNT, pages, *shape)).astype(dtype)
    light = "rgb" if shape[2:] == (3,) else "minisblack"

    def write(path: Path, number: int) -> None:
        extra = {"extrasamples": ["unspecified"] * 4} if shape[2:] == (5,) else {}
        tifffile.imwrite(
            path, np.squeeze(stored[number]), photometric=light, metadata=None, **extra
        )

    return in_folders(write, ".tif") if pages == 1 else one(write, ".tif")


def one(write: Callable[[Path, int], None], suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"one{suffix}"
        write(path, 0)
        return path

    return make


def of_series(suffix: str, delimiter: str, first: bool) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        classes, values = np.arange(COUNT)[:, None] % 3, RANDOM.normal(size=(COUNT, 8))
        table = np.hstack([classes, values] if first else [values, classes])
        np.savetxt(folder / f"series{suffix}", table, delimiter=delimiter)
        return folder / f"series{suffix}"

    return make


def of_table(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        table = pictures(0, COUNT)
        if name.endswith(".parquet"):
            parquet.write_table(table, folder / name)
        elif name.endswith(".arrow"):
            write(folder / name, table)
        else:
            saved(folder / name, [table], {"image": {"_type": "Image"}, "label": CLASS})
        return folder / name

    return make


def of_shards(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        def label(number: int) -> dict[str, bytes]:
            return {"cls": str(number % 2).encode()}

        return shards(folder / "set", more=label, item=picture) / name

    return make


def of_volume_files(write, suffix: str) -> Callable[[Path], Path]:
    stored = levels(3, 8, 8, dtype=np.uint8)
    return in_folders(lambda path, n: write(path, stored[n]), suffix)


def by_nibabel(make, suffix: str) -> Callable[[Path], Path]:
    affine = np.diag([2.0, 1.5, 3, 1])

    def write(path: Path, voxels: np.ndarray) -> None:
        nibabel.save(make(voxels, affine), path)

    return of_volume_files(write, suffix)


def of_arrays_in_files(suffix: str) -> Callable[[Path], Path]:
    stored = levels(8, 6, 3)

    def write(path: Path, number: int) -> None:
        if suffix == ".npy":
            np.save(path, stored[number])
        else:
            scipy.io.savemat(path, {"image": stored[number]})

    return in_folders(write, suffix)


def of_tables_in_files(path: Path, number: int) -> None:
    np.savetxt(path, RANDOM.normal(size=(16, 2)), delimiter=",")


def of_grid(suffix: str) -> Callable[[Path], Path]:
    stored = levels(8, 6, 3)

    def make(folder: Path) -> Path:
        path = folder / f"a{suffix}"
        if suffix == ".mat":
            labels = np.arange(COUNT)[:, None] % 2 + 1
            scipy.io.savemat(path, {"X": np.moveaxis(stored, 0, -1), "y": labels})
            return path
        grid = xarray.Dataset({"image": (("sample", "y", "x", "channel"), stored)})
        (grid.to_netcdf if suffix == ".nc" else grid.to_zarr)(path)
        return path

    return make


def of_idx(name: str, pack=bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / f"images-idx3{name}"
        path.write_bytes(pack(idx_bytes(levels(8, 6))))
        labels = path.with_name(path.name.replace("images-idx3", "labels-idx1"))
        labels.write_bytes(pack(idx_bytes(np.arange(COUNT, dtype=np.uint8) % 2)))
        return path

    return make


def of_zip(folder: Path) -> Path:
    stored = levels(8, 6, 3)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for number in range(COUNT):
            file = BytesIO()
            Image.fromarray(stored[number]).save(file, "PNG")
            archive.writestr(f"{'ab'[number % 2]}/{number}.png", file.getvalue())
    return folder / "a.zip"


def of_recordings(suffix: str) -> Callable[[Path], Path]:
    def write(path: Path, number: int) -> None:
        signals = RANDOM.normal(0, 20, (2, 16))
        if suffix == ".hea":
            wfdb.wrsamp(
                path.stem,
                fs=16,
                units=["mV", "mV"],
                sig_name=["I", "II"],
                p_signal=signals.T,
                fmt=["16", "16"],
                write_dir=str(path.parent),
            )
        else:
            form = Form(
                "signal",
                Values("float32", -99, 99),
                sample_rate=16,
                container="EDF",
                channel_names=("I", "II"),
                units=("uV", "uV"),
            )
            write_edf(path, signals, form)

    return in_folders(write, suffix)


def of_ts(folder: Path) -> Path:
    rows = (":".join(",".join(map(str, c)) for c in x) for x in RANDOM.normal(size=(COUNT, 2, 16)))
    lines = ["@classLabel true a b", "@data", *(f"{r}:{'ab'[n % 2]}" for n, r in enumerate(rows))]
    (folder / "a.ts").write_text("\n".join(lines))
    return folder / "a.ts"


CONDITIONAL = ("model.class_conditional=true",)
CASES: dict[str, dict[str, Case]] = {
    "8-bit pictures, a folder of pictures": {
        "gray": Case(of_pictures(8, 6), "*.png", CONDITIONAL),
        "RGB": Case(of_pictures(8, 6, 3, suffix=".bmp"), "*.png"),
        "RGBA": Case(of_pictures(8, 6, 4, high=250, suffix=".webp"), "*.png"),
    },
    "16-bit gray pictures, a folder of pictures": {
        "png": Case(of_pictures(8, 6, dtype=np.uint16, high=65536), "*.png", CONDITIONAL),
        "tiff": Case(of_pictures(8, 6, dtype=np.uint16, suffix=".tiff", high=65536), "*.png"),
    },
    "arrays, `.npy`, `.npz`": {
        ".npy of pictures": Case(of_arrays("a.npy", levels(8, 6)), "*.png", ("data.layout=NHW",)),
        ".npz of pictures": Case(
            of_arrays("a.npz", levels(8, 6, 3), labels=np.arange(COUNT) % 2), "*.png", CONDITIONAL
        ),
        ".npy of two channels": Case(
            of_arrays("a.npy", levels(8, 6, 2)), "samples.npz",
            ("data.layout=NHWC",), ("data.layout=NHWC",),
        ),
        ".npz of signals": Case(
            of_arrays("a.npz", levels(16, dtype=np.int16, low=-900, high=900)), "samples.npz", (),
            ("data.layout=NLC",),
        ),
        ".npy of volumes": Case(
            of_arrays("a.npy", levels(3, 8, 8, 1) / np.float32(255)), "samples.npz",
            ("data.layout=NDHWC",), ("data.layout=NDHWC",),
        ),
    },
    "arrays, `.h5`, `.hdf5`": {
        ".h5": Case(
            of_arrays("a.h5", levels(8, 6, 3), labels=np.arange(COUNT) % 2), "*.png", CONDITIONAL
        ),
        ".hdf5": Case(
            of_arrays("a.hdf5", levels(16, dtype=np.float32, high=50), y=np.arange(COUNT) % 2),
            "samples.npz", CONDITIONAL, ("data.layout=NLC",),
        ),
    },
    "arrays of other programs, `.mat` (MATLAB), `.nc` (NetCDF), `.zarr`": {
        ".mat": Case(of_grid(".mat"), "*.png", CONDITIONAL),
        ".nc": Case(of_grid(".nc"), "*.png"),
        ".zarr": Case(of_grid(".zarr"), "*.png"),
    },
    "arrays, an item in each file, a folder of files of arrays": {
        ".npy": Case(of_arrays_in_files(".npy"), "*.png", CONDITIONAL),
        ".mat": Case(of_arrays_in_files(".mat"), "*.png"),
    },
    "tables, an item in each file, a folder of `.csv` files": {
        ".csv": Case(in_folders(of_tables_in_files, ".csv"), "samples.npz", CONDITIONAL,
                     ("data.layout=NLC",)),
    },
    "IDX (MNIST), `...-idx3-ubyte`, `.idx`, `.gz`": {
        ".idx": Case(of_idx(".idx"), "*.png", CONDITIONAL),
        ".gz": Case(of_idx("-ubyte.gz", gzip.compress), "*.png"),
    },
    "pictures in an archive, `.zip`": {".zip": Case(of_zip, "*.png", CONDITIONAL)},
    "physiological recordings, `.edf`, `.bdf`, `.hea` (WFDB): a file or a folder": {
        suffix: Case(of_recordings(suffix), "*.edf", CONDITIONAL, off=1e-4)
        for suffix in (".edf", ".bdf", ".hea")
    },
    "series of archives (UCR, UEA), `.ts`": {
        ".ts": Case(of_ts, "samples.npz", CONDITIONAL, ("data.layout=NLC",)),
    },
    "other volumes, `.mgz`, `.hdr` with `.img`, `.mnc`, `.nrrd`, `.mha`: a file or a folder": {
        ".mgz": Case(by_nibabel(MGHImage, ".mgz"), "*.nii.gz", CONDITIONAL),
        ".hdr and .img": Case(by_nibabel(nibabel.Nifti1Pair, ".hdr"), "*.nii.gz"),
        ".mnc": Case(of_volume_files(minc, ".mnc"), "*.nii.gz"),
        ".nrrd": Case(of_volume_files(itk, ".nrrd"), "*.nii.gz"),
        ".mha": Case(of_volume_files(itk, ".mha"), "*.nii.gz"),
    },
    "sounds, `.wav`, `.flac`: a file or a folder": {
        ".wav": Case(of_sounds("PCM_16", ".wav"), "*.wav", CONDITIONAL),
        ".flac": Case(of_sounds("PCM_16", ".flac"), "*.flac"),
        "one .wav": Case(of_sounds("PCM_24", ".wav", alone=True), "*.wav", ("data.window=16",)),
    },
    "other sounds, `.aiff`, `.mp3`, `.ogg`, `.opus`: a file or a folder": {
        ".aiff": Case(of_sounds("PCM_24", ".aiff"), "*.aiff"),
        **{
            suffix: Case(
                of_sounds(coding, suffix, alone=True, rate=48000), "*.wav",
                ("data.window=16", "data.range=[-1,1]"),
            )
            for suffix, coding in LOSSY.items()
        },
    },
    "DICOM series as volumes, `.dcm`: a folder of slices, folders of them, or a file of several "
    "frames": {
        ".dcm": Case(of_series_of_slices, "*.nii.gz", CONDITIONAL),
    },
    "DICOM pictures, `.dcm`: a file, or a folder of single ones": {
        ".dcm": Case(of_single_dicom, "*.tif"),
    },
    "videos, `.mp4`, `.mov`, `.webm`: a file or a folder": {
        ".mp4": Case(of_videos(".mp4", "libx264rgb", "rgb24"), "*.mp4", CONDITIONAL),
        ".mov": Case(of_videos(".mov", "png", "rgb24"), "*.mp4"),
        ".webm": Case(of_videos(".webm", "libvpx", "yuv420p"), "*.mp4"),
    },
    "16-bit color pictures, `.png`, `.jp2`: a folder": {
        ".png": Case(of_deep(".png", imagecodecs.png_encode), "*.png"),
        ".jp2": Case(
            of_deep(".jp2", lambda x: imagecodecs.jpeg2k_encode(x, level=0, reversible=True)),
            "*.tif",
        ),
    },
    "time series, `.csv`, `.tsv`, `.txt`: one per row": {
        ".csv": Case(of_series(".csv", ",", False), "samples.csv", CONDITIONAL),
        ".tsv": Case(of_series(".tsv", "\t", True), "samples.csv", CONDITIONAL),
        ".txt": Case(
            of_series(".txt", " ", True), "samples.csv", ("data.labels=first",),
            ("data.labels=none",),
        ),
    },
    "volumes, `.nii`, `.nii.gz`: a file or a folder": {
        ".nii": Case(of_volumes(np.int16, ".nii"), "*.nii.gz", CONDITIONAL),
        ".nii.gz": Case(of_volumes(np.float32, ".nii.gz"), "*.nii.gz"),
        "one .nii": Case(
            of_volumes(np.uint8, ".nii", alone=True), "*.nii.gz", ("data.window=[3,8,8]",)
        ),
    },
    "clips, `.gif`, `.webp` of several frames: a file or a folder": {
        ".gif": Case(of_clips(8, 6), "0*.gif", CONDITIONAL),
        ".gif in color": Case(of_clips(4, 6, 3, high=2), "*.webp"),
        ".webp": Case(of_clips(8, 6, 3, suffix=".webp"), "*.webp"),
        "one .gif": Case(of_clips(8, 6, alone=True), "0*.gif", ("data.window=[3,8,6]",)),
    },
    "stacks of 8-bit, 16-bit or float pages, gray or RGB, `.tif`, `.tiff` of several pages: a file "
    "or a folder": {
        ".tif": Case(of_clips(8, 6, suffix=".tif"), "*.tif", CONDITIONAL),
        ".tiff of RGB": Case(of_clips(8, 6, 3, suffix=".tiff"), "*.tif"),
        ".tif of 16 bits": Case(of_clips(8, 6, dtype=np.uint16, suffix=".tif"), "*.tif"),
        ".tif of floats": Case(of_clips(8, 6, dtype=np.float32, suffix=".tif"), "*.tif"),
        "one .tif of 12 bits": Case(
            of_clips(8, 6, dtype=np.uint16, suffix=".tif", alone=True, high=4096), "*.tif",
            ("data.window=[3,8,6]", "data.range=auto"),
        ),
    },
    "numeric TIFF: floats, signed or wider integers, any number of samples per pixel, `.tif`, "
    "`.tiff`: a file or a folder": {
        ".tif of floats": Case(of_rasters(8, 6, dtype=np.float32), "*.tif", CONDITIONAL),
        ".tiff of 16 bits in color": Case(of_rasters(8, 6, 3, dtype=np.uint16), "*.tif"),
        ".tif of 5 samples": Case(of_rasters(8, 6, 5, dtype=np.uint8), "*.tif"),
        "one .tif of signed pages": Case(
            of_rasters(8, 6, dtype=np.int16, pages=12), "*.tif", ("data.window=[3,8,6]",)
        ),
    },
    "frames of clips, a folder of folders of pictures, with `data.layout=frames`": {
        "gray": Case(
            of_clips(8, 6, suffix=""), "0*", ("data.layout=frames", *CONDITIONAL),
            ("data.layout=frames",),
        ),
        "RGB": Case(
            of_clips(8, 6, 3, suffix=""), "0*", ("data.layout=frames",), ("data.layout=frames",)
        ),
    },
    "a folder of pictures, any picture in it or below it, of one frame": {
        "palette": Case(
            in_folders(
                lambda path, n: Image.new("P", (6, 8), n).save(path), ".gif"
            ),
            "*.png",
        ),
    },
    "`x.npy`, `x.npz`, the suffix": {
        ".npy": Case(of_arrays("x.npy", levels(8, 8, 1)), "*.png"),
        ".npz": Case(of_arrays("x.npz", levels(8, 8, 1)), "*.png"),
    },
    "`x.tar`, a folder of them, `{000..012}.tar`, the suffix; a folder with .tar files and "
    "neither pictures nor folders": {
        ".tar": Case(of_shards("001.tar"), "*.png"),
        "folder": Case(of_shards(""), "*.png", CONDITIONAL),
        "pattern": Case(of_shards("{000..002}.tar"), "*.png"),
    },
    "a Hugging Face dataset saved to disk, a folder with `state.json`": {
        "state.json": Case(of_table("saved"), "*.png", CONDITIONAL),
    },
    "`x.arrow`, `x.parquet`, a folder of them, `train-{00000..00012}-of-00013.parquet`, the suffix":
    {
        ".arrow": Case(of_table("x.arrow"), "*.png"),
        ".parquet": Case(of_table("x.parquet"), "*.png"),
        "folder": Case(lambda folder: of_table("x.parquet")(folder).parent, "*.png"),
        "pattern": Case(
            lambda folder: (
                of_table("train-00000-of-00001.parquet")(folder).parent
                / "train-{00000..00000}-of-00001.parquet"
            ),
            "*.png",
        ),
    },
    "`mnist5k`, `digits`, the name, if no such path exists": {
        name: Case(lambda folder, name=name: name, "*.png", CONDITIONAL)
        for name in ("mnist5k", "digits")
    },
}  # fmt: skip


def rows(name: str) -> list[str]:
    """The first two cells of each row of a document's table."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(f"| {TABLES[name]} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append(", ".join(cell.strip() for cell in line.strip("|").split("|")[:2]))
    return found


def test_every_row_has_a_case_and_every_case_a_row():
    documented = [row for name in TABLES for row in rows(name) if not row.startswith(ELSEWHERE)]
    assert len(documented) > 10
    without = set(documented) - set(CASES)
    assert not without, f"add cases to CASES in {Path(__file__).name} for the rows {without}"
    assert not set(CASES) - set(documented), "cases whose rows are gone from the documents"
    for row, cases in CASES.items():
        suffixes = re.findall(r"`x?(\.[a-z0-9.]+)`", row)
        missing = [s for s in suffixes if not any(re.search(rf"{s}\b", name) for name in cases)]
        assert not missing, f"the row {row!r} names {missing}, and none of its cases is one"


@pytest.mark.parametrize(
    "case",
    [pytest.param(c, id=f"{r}: {n}") for r, cases in CASES.items() for n, c in cases.items()],
)
def test_a_row(case, tmp_path):
    (tmp_path / "in").mkdir()
    data = str(case.make(tmp_path / "in"))
    settings = [word for s in [*case.settings, "training.batch_size=2"] for word in ("-s", s)]
    tiny = [word for s in TINY for word in ("-s", s)]
    out, drawn = tmp_path / "run", tmp_path / "drawn"
    printed = StringIO()
    with redirect_stdout(printed):
        picture = ["--out", str(tmp_path / "p.png")]
        assert command(["data", "inspect", data, *settings, *picture]) == 0
        assert command(["train", data, *tiny, *settings, "--steps", "1", "--out", str(out)]) == 0
        assert command(["sample", str(out), "-n", "2", "--steps", "2", "--out", str(drawn)]) == 0
    run = iddpm.load(out)
    values, shape = values_of(run.config), run.shape
    assert f"each {' x '.join(map(str, shape))}" in printed.getvalue()
    assert f"values     {values}" in printed.getvalue()
    assert Image.open(tmp_path / "p.png").size > (50, 50)

    paths = sorted(p for p in drawn.glob(case.written) if p.name not in ("grid.png", "labels.csv"))
    assert len(paths) == (1 if case.written.startswith("samples") else 2)
    fresh = tmp_path / "again"
    fresh.mkdir()
    for path in paths:
        (shutil.copytree if path.is_dir() else shutil.copy)(path, fresh / path.name)
    options = dict(setting.removeprefix("data.").split("=") for setting in case.again)
    again = open_source(
        fresh / paths[0].name if len(paths) == 1 else fresh,
        value_range=run.config.data.range,
        channels=shape[0] if case.written == "*.png" else None,
        **options,
    )
    assert (again.shape, again.bits, len(again)) == (shape, run.config.bits, 2)
    if form_of(run.config).kind != "array":
        assert again.form == form_of(run.config)
    # What was drawn is what is read: to the level, or to the digits of the file.
    x = run.sample(2, steps=2)
    read = to_model_range(again.read_many([0, 1]), again.bits)
    if run.config.bits is None:
        np.testing.assert_allclose(read, x.clamp(-1, 1), atol=case.off)
    else:
        assert np.array_equal(values.restore(read), values.restore(x))
