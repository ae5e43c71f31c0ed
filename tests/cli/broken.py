"""Data of every kind, broken in every way, and settings that may not go with it."""

import io
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import h5py
import nibabel
import numpy as np
import pyarrow as pa
import scipy.io
import SimpleITK
import soundfile
import wfdb
import xarray
from hypothesis import strategies as st
from nibabel.freesurfer.mghformat import MGHImage
from PIL import Image

from iddpm.cli.main import run
from iddpm.data.file_format import Form
from iddpm.data.values import Values
from iddpm.data.writers.clip_encoding import write_clip
from iddpm.data.writers.sound_files import write_edf
from tests.data.sources.test_dicom import write as dicom
from tests.data.sources.test_shards import array as npy
from tests.data.sources.test_tables import CLASS, parquet, pictures, saved, write
from tests.data.sources.test_tar_index import pack

SMALL = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
TEXTS = (".csv", ".tsv", ".txt", ".json")
TOKENS = (
    b",", b";", b"\t", b" ", b"\n", b"\r", b"\0", b"\xff", b'"', b"'", b"#", b"[", b"{", b"x",
    b"nan", b"inf", b"-1e400", b"1e38", b"9999999999",
)  # fmt: skip
SETTINGS: dict[str, list[str]] = {
    "data.layout": ["NL", "NCL", "NLC", "NHW", "NCHW", "NHWC", "NCDHW", "XYZ", ""],
    "data.window": ["1", "3", "8", "[2,2]", "[2,2,2]", "[1,1,1,1]", "1000", "0", "[]", str(10**20)],
    "data.stride": ["1", "7", "0", "100000", str(10**20)],
    "data.range": [
        "auto", "[0,1]", "[0,15]", "[-1,1]", "[1,0]", "[0,4095]", "[-32768,32767]", "[0.5,1.5]",
        "[-1e308,1e308]", "[0,1e-320]", "[nan,1]", "[0,inf]", "5", "[0,1,2]",
    ],
    "data.labels": ["auto", "none", "first", "last", "folder", "prefix", "label", "no.csv", "."],
    "data.column": ["png", "image", "x", "label", ""],
    "data.channels": ["1", "3", "4", "2"],
    "data.image_size": ["4", "8", "[4,6]", "1", "0"],
    "data.sample_rate": ["8000", "16000", "1", "0", "44100"],
    "data.held_out": ["0", "0.5", "0.999", "1"],
    "data.corrupt": ["skip"],
    "data.fill": ["0", "-1", "1e300", "nan"],
    "data.cache": ["auto"],
    "data.random_crop": ["true"],
    "model.class_conditional": ["true"],
    "model.circular": ["true"],
    "model.stride": ["[2,2,2]", "[1,2]"],
    "task": ["classification"],
}  # fmt: skip


class Case(NamedTuple):
    """Files by their path below a folder, what is given to the commands, and settings."""

    files: dict[str, bytes]
    path: str
    settings: list[str]


def outcome(*arguments):
    """Run a command in this process: its status, what it printed, and what it complained of."""
    out, complaint = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(complaint):
        status = run(list(map(str, arguments)))
    return status, out.getvalue(), complaint.getvalue()


@cache
def whole_files() -> dict[str, bytes]:
    """Return small files of each kind by name: valid, but for a few that hold what none may."""
    floats = (SMALL / np.float32(210)).astype(np.float32)
    with_nan = np.where(SMALL == 99, np.nan, floats)
    tone = SMALL.reshape(-1, 1) / 256
    series = np.column_stack([np.arange(5) % 2, floats.reshape(5, -1)[:, :9] + 0.25])
    written: dict[str, Callable[[Path], object]] = {
        "a.npy": lambda path: np.save(path, SMALL),
        "floats.npy": lambda path: np.save(path, floats),
        "int64.npy": lambda path: np.save(path, SMALL.astype(np.int64) - 100),
        "nan.npy": lambda path: np.save(path, with_nan),
        "large.npy": lambda path: np.save(path, SMALL * 1e300),
        "complex.npy": lambda path: np.save(path, SMALL.astype(np.complex64)),
        "bool.npy": lambda path: np.save(path, SMALL > 9),
        "a.npz": lambda path: np.savez(path, SMALL, np.arange(5)),
        "b.npz": lambda path: np.savez_compressed(path, SMALL, labels=np.array(list("abcde"))),
        "two.npz": lambda path: np.savez(path, a=SMALL, b=SMALL),
        "a.h5": _hdf5,
        "a.nii": lambda path: nibabel.save(nibabel.Nifti1Image(SMALL, np.eye(4)), path),
        "a.nii.gz": lambda path: nibabel.save(nibabel.Nifti1Image(floats, np.eye(4)), path),
        "a.wav": lambda path: soundfile.write(path, tone, 8000, subtype="PCM_16"),
        "b.wav": lambda path: soundfile.write(path, np.hstack([tone, -tone]), 16000, "FLOAT"),
        "a.flac": lambda path: soundfile.write(path, tone, 8000, subtype="PCM_16"),
        "a.aiff": lambda path: soundfile.write(path, tone, 8000, subtype="PCM_16"),
        "a.mp3": lambda path: soundfile.write(path, np.tile(tone, (20, 1)), 8000),
        "a.mp4": lambda path: write_clip(path, np.stack([SMALL] * 3), "MP4", 40),
        "a.dcm": lambda path: dicom(path, SMALL, NumberOfFrames=len(SMALL)),
        "a.mgz": lambda path: nibabel.save(MGHImage(SMALL, np.eye(4)), path),
        "a.nrrd": lambda path: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(SMALL), str(path)),
        "a.mat": lambda path: scipy.io.savemat(path, {"x": SMALL}, do_compression=True),
        "a.nc": lambda path: xarray.Dataset({"v": (("n", "y", "x"), floats)}).to_netcdf(path),
        "a.edf": _edf,
        "a.hea": lambda path: wfdb.wrsamp(
            path.stem,
            fs=100,
            units=["mV"],
            sig_name=["I"],
            p_signal=tone,
            fmt=["16"],
            write_dir=str(path.parent),
        ),
        "a.ts": lambda path: path.write_text("@classLabel true a b\n@data\n1,2,3:a\n4,5,6.5:b\n"),
        "a.idx": lambda path: path.write_bytes(
            bytes([0, 0, 8, 3, *b"\0\0\0\5\0\0\0\6\0\0\0\7"]) + SMALL.tobytes()
        ),
        "a.zip": _zip,
        "a.csv": lambda path: np.savetxt(path, series, delimiter=",", fmt="%.5g"),
        "a.tsv": lambda path: np.savetxt(path, series[:, ::-1], delimiter="\t", fmt="%.5g"),
        "a.txt": lambda path: np.savetxt(path, series, fmt="%.5g"),
        "a.parquet": lambda path: parquet.write_table(pictures(0, 5), path),
        "a.arrow": lambda path: write(path, pictures(0, 5)),
        "arrays.arrow": lambda path: write(path, pa.table({"x": floats.reshape(5, -1).tolist()})),
        "a.tar": lambda path: pack(
            path, {f"{k}.{end}": data for k in range(4) for end, data in _sample(k).items()}
        ),
        "arrays.tar": lambda path: pack(path, {f"{k}.npy": npy(floats) for k in range(3)}),
    }
    for name in ("a.gif", "a.webp", "a.tif"):
        written[name] = _clip
    found = {}
    with TemporaryDirectory() as folder:
        for name, make in written.items():
            make(Path(folder, name))
            found[name] = Path(folder, name).read_bytes()
    return found


def _edf(path: Path) -> None:
    form = Form("signal", Values("float32", -1.0, 1.0), sample_rate=42)
    write_edf(path, SMALL.reshape(1, -1) / 256, form)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(4):
            archive.writestr(f"{number}.png", whole_pictures()["a.png"])


def _hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=SMALL, compression="gzip")
        file["labels"] = np.arange(5) % 2


def _sample(number: int) -> dict[str, bytes]:
    return {"png": whole_pictures()["a.png"], "cls": str(number % 2).encode()}


def _clip(path: Path) -> None:
    first, *others = [Image.fromarray(frame) for frame in SMALL]
    first.save(path, save_all=True, append_images=others)


@cache
def whole_pictures() -> dict[str, bytes]:
    """Return valid pictures of every suffix and of modes that differ."""
    color = np.random.default_rng(0).integers(0, 256, (6, 7, 4), np.uint8)
    modes = {
        "a.png": "L", "b.png": "RGB", "c.png": "RGBA", "d.png": "P", "e.png": "1", "f.png": "I;16",
        "a.jpg": "RGB", "b.jpeg": "L", "c.jpg": "CMYK", "a.bmp": "RGB", "b.bmp": "L",
        "a.tif": "RGB", "b.tiff": "I;16", "c.tif": "F", "a.webp": "RGB", "b.webp": "RGBA",
        "a.gif": "P", "a.ppm": "RGB", "a.pgm": "L",
    }  # fmt: skip
    found = {}
    for name, mode in modes.items():
        if mode == "I;16":
            image = Image.fromarray(color[..., 0].astype(np.uint16) * 257)
        else:
            image = Image.fromarray(color).convert(mode)
        file = io.BytesIO()
        image.save(file, Image.registered_extensions()[f".{name.rpartition('.')[2]}"])
        found[name] = file.getvalue()
    return found


@cache
def saved_dataset() -> dict[str, bytes]:
    """Return the files of a dataset that was saved to disk."""
    with TemporaryDirectory() as folder:
        where = saved(
            Path(folder, "d"), [pictures(0, 5)], {"image": {"_type": "Image"}, "label": CLASS}
        )
        return {path.name: path.read_bytes() for path in where.iterdir()}


@st.composite
def broken(draw, name: str, content: bytes) -> bytes:
    """A file cut short, with bytes changed or doubled, or with other bytes altogether."""
    data = bytearray(content)
    ways = ["whole", "cut", "changed", "header", "header", "filled", "doubled", "random"]
    how = draw(st.sampled_from(["text"] * 6 + ways if name.endswith(TEXTS) else ways))
    place = draw(st.integers(0, len(data)))
    if how == "cut":
        data = data[:place]
    elif how in ("changed", "header") and data:
        reach = min(len(data), 130 if how == "header" else len(data)) - 1
        values = st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)
        for at in draw(st.lists(st.integers(0, reach), min_size=1, max_size=6)):
            data[at] = draw(values)
    elif how == "filled":
        length = draw(st.sampled_from([2, 4, 8]))
        data[place : place + length] = bytes([draw(st.sampled_from([0, 127, 255]))]) * length
    elif how == "doubled":
        data[place:place] = data[max(0, place - 40) : place]
    elif how == "random":
        data = bytearray(draw(st.binary(max_size=300)))
    elif how == "text":
        for at in draw(st.lists(st.integers(0, len(data)), min_size=1, max_size=4)):
            data[at : at + draw(st.sampled_from([0, 1, 3]))] = draw(st.sampled_from(TOKENS))
    return bytes(data)


@st.composite
def cases(draw) -> Case:
    """A file, a folder of files of one kind or of several, or a saved dataset."""
    keys = draw(st.lists(st.sampled_from(sorted(SETTINGS)), max_size=3, unique=True))
    settings = [f"{key}={draw(st.sampled_from(SETTINGS[key]))}" for key in keys]
    kind = draw(
        st.sampled_from(["file", "file", "file", "pictures", "pictures", "folder", "saved"])
    )
    if kind == "file":
        files = whole_files()
        name = draw(st.sampled_from(sorted(files)))
        called = draw(st.sampled_from([name] * 5 + sorted(files)))  # or by a wrong suffix
        return Case({called: draw(broken(name, files[name]))}, called, settings)
    if kind == "saved":
        parts = saved_dataset()
        hit = draw(st.sampled_from(sorted(parts)))
        found = {f"d/{name}": data for name, data in parts.items()}
        return Case(found | {f"d/{hit}": draw(broken(hit, parts[hit]))}, "d", settings)
    pool = whole_pictures() if kind == "pictures" else whole_files()
    same = draw(st.booleans())
    first = draw(st.sampled_from(sorted(pool)))
    found = {}
    for number in range(3):
        name = first if same else draw(st.sampled_from(sorted(pool)))
        data = pool[name] if draw(st.booleans()) else draw(broken(name, pool[name]))
        found[f"d/{draw(st.sampled_from(['', 'a/', 'b/']))}{number}_{name}"] = data
    if draw(st.integers(0, 3)) == 0:
        table = "file,label\n" + "".join(f"{key[2:]},{key[2]}\n" for key in found)
        found["d/labels.csv"] = draw(broken("labels.csv", table.encode()))
        settings.append("data.labels=labels.csv")
    return Case(found, "d", settings)


def written(case: Case, folder: Path) -> str:
    """Write the files and return what to give."""
    for name, data in case.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return str(folder / case.path)
