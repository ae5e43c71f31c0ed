"""Data files of every format, damaged in every way, from a seed."""

import gzip
import io
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pyarrow as pa
import soundfile
import tifffile
from PIL import Image
from pyarrow import parquet

from iddpm.data.sources.open import open_source
from tests.conftest import images

COUNT = 4
GRAY = images(COUNT)[..., 0]
COLOR = images(COUNT, channels=3)


def encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(frame) for frame in COLOR]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:], duration=40)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def volume(suffix: str) -> bytes:
    numbers = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    image = nibabel.Nifti1Image(numbers, np.diag([1, 1, 2, 1.0]))
    image.header.set_slope_inter(0.5, 3)
    content = image.to_bytes()
    return gzip.compress(content) if suffix.endswith("gz") else content


def sound(kind: str, subtype: str) -> bytes:
    file = io.BytesIO()
    tone = np.sin(np.arange(64) / 3)[:, None] * [0.5, 0.3]
    soundfile.write(file, tone, 8000, format=kind, subtype=subtype)
    return file.getvalue()


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(save: Callable[..., None]) -> bytes:
    file = io.BytesIO()
    save(file, images=GRAY, labels=np.arange(COUNT) % 2)
    return file.getvalue()


def hdf5() -> bytes:
    file = io.BytesIO()
    with h5py.File(file, "w") as stored:
        stored.create_dataset("images", data=GRAY, chunks=(1, 8, 8), compression="gzip")
        stored["labels"] = np.arange(COUNT) % 2
    return file.getvalue()


def arrow(pictures: bool) -> pa.Table:
    if pictures:
        cells = [{"bytes": encoded(x, "png"), "path": None} for x in COLOR]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        return pa.table({"image": pa.array(cells, kind), "label": [0, 1] * 2})
    return pa.table({"x": pa.array(GRAY.tolist(), pa.list_(pa.list_(pa.uint8())))})


def stream(table: pa.Table) -> bytes:
    file = io.BytesIO()
    with pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return file.getvalue()


def parquet_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    parquet.write_table(table, file)
    return file.getvalue()


def tar(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def shard() -> dict[str, bytes]:
    members = {}
    for n, pixels in enumerate(COLOR):
        members |= {
            f"{n}.jpg": encoded(pixels, "jpeg"),
            f"{n}.cls": str(n % 2).encode(),
            f"{n}.json": json.dumps({"label": n % 2}).encode(),
        }
    return members


def rows(delimiter: str) -> bytes:
    lines = [delimiter.join(map(str, [*row, n % 2])) for n, row in enumerate(GRAY[:, 0])]
    return "\n".join(["a,b,c,d,e,f,g,h,label".replace(",", delimiter), *lines]).encode()


def folder(suffix: str, contents: list[bytes], **more: bytes) -> dict[str, bytes]:
    """Return the files of a folder; ``t_csv`` stands for t.csv."""
    files = {f"{n}{suffix}": content for n, content in enumerate(contents)}
    return files | {name.replace("_", "."): content for name, content in more.items()}


def labels(suffix: str) -> bytes:
    return "\n".join(["file,label", *(f"{n}{suffix},{n % 2}" for n in range(COUNT))]).encode()


def pictures(kind: str, suffix: str) -> dict[str, bytes]:
    return folder(suffix, [encoded(x, kind) for x in COLOR], labels_csv=labels(suffix))


FORMATS: dict[str, Callable[[], dict[str, bytes]]] = {
    "png": lambda: pictures("png", ".png"),
    "jpg": lambda: pictures("jpeg", ".jpg"),
    "large jpg": lambda: folder(".jpg", [encoded(x.repeat(20, 0).repeat(20, 1), "jpeg")
                                         for x in COLOR]),
    "webp": lambda: pictures("webp", ".webp"),
    "bmp": lambda: pictures("bmp", ".bmp"),
    "ppm": lambda: pictures("ppm", ".ppm"),
    "gif": lambda: folder(".gif", [animated("gif")] * 2),
    "moving webp": lambda: folder(".webp", [animated("webp")] * 2),
    "tif": lambda: folder(".tif", [tiff(x, compression="lzw", photometric="rgb") for x in COLOR]),
    "float tif": lambda: folder(".tif", [tiff(x.astype(np.float32)) for x in GRAY]),
    "stack tif": lambda: folder(".tif", [tiff(GRAY, compression="deflate",
                                              photometric="minisblack")] * 2),
    "nii": lambda: folder(".nii", [volume("nii")] * 2),
    "nii.gz": lambda: folder(".nii.gz", [volume("nii.gz")] * 2),
    "wav": lambda: folder(".wav", [sound("WAV", "PCM_16")] * 2),
    "float wav": lambda: folder(".wav", [sound("WAV", "FLOAT")] * 2),
    "flac": lambda: folder(".flac", [sound("FLAC", "PCM_16")] * 2),
    "npy": lambda: {"x.npy": npy(GRAY)},
    "float npy": lambda: {"x.npy": npy((GRAY / 127.5 - 1).astype(np.float32)[..., None])},
    "npz": lambda: {"x.npz": npz(np.savez)},
    "small npz": lambda: {"x.npz": npz(np.savez_compressed)},
    "h5": lambda: {"x.h5": hdf5()},
    "csv": lambda: {"x.csv": rows(",")},
    "tsv": lambda: {"x.tsv": rows("\t")},
    "txt": lambda: {"x.txt": rows(" ")},
    "arrow": lambda: {"x.arrow": stream(arrow(True))},
    "arrow arrays": lambda: {"x.arrow": stream(arrow(False))},
    "parquet": lambda: {"x.parquet": parquet_of(arrow(True))},
    "dataset": lambda: {
        "data-0.arrow": stream(arrow(True)),
        "state.json": json.dumps({"_data_files": [{"filename": "data-0.arrow"}]}).encode(),
        "dataset_info.json": json.dumps({"features": {
            "label": {"_type": "ClassLabel", "names": ["ant", "bee"]}}}).encode(),
    },
    "tar": lambda: {"x.tar": tar(shard())},
    "tar of arrays": lambda: {"x.tar": tar({f"{n}.npy": npy(x) for n, x in enumerate(GRAY)})},
}  # fmt: skip
FILES = {name: make() for name, make in FORMATS.items()}
"""The files of each format, by their names."""
TEXTS = (b"nan", b"1e999", b"\x1b[31m", b"\0", b'"', b",,", b"-", b"[" * 2000)
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 10**9)


def damaged(content: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return what was done to a file, and what it holds then."""
    data = bytearray(content)
    at = chance.randrange(len(data))
    way = chance.choice((
        "flip", "flips", "head", "number", "cut", "empty", "zeros", "double", "drop", "append",
        "exchange", "text",
    ))  # fmt: skip
    if way == "flip":
        data[at] ^= 1 << chance.randrange(8)
    elif way == "flips":
        for _ in range(chance.randint(2, 20)):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif way == "head":  # where most is promised
        data[chance.randrange(min(64, len(data)))] = chance.randrange(256)
    elif way == "number":
        place = chance.randrange(min(512, len(data)))
        width, order = chance.choice((2, 4, 8)), chance.choice(("little", "big"))
        data[place : place + width] = (chance.choice(NUMBERS) % 256**width).to_bytes(width, order)
    elif way == "cut":
        del data[at:]
    elif way == "empty":
        data.clear()
    elif way == "zeros":
        length = chance.randint(1, 64)
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif way == "double":
        data[at:at] = data[at : at + chance.randint(1, 256)]
    elif way == "drop":
        del data[at : at + chance.randint(1, 256)]
    elif way == "append":
        data += chance.randbytes(chance.randint(1, 512))
    elif way == "exchange":  # for a file of another format under its name
        other = FILES[chance.choice(list(FILES))]
        data[:] = other[chance.choice(list(other))]
    elif way == "text":
        data[at:at] = chance.choice(TEXTS)
    return way, bytes(data)


def place(files: dict[str, bytes], where: Path, chance: random.Random) -> str:
    """Write the files of a format with one of them damaged; return what was done."""
    where.mkdir()
    for name, content in files.items():
        (where / name).write_bytes(content)
    name = chance.choice(list(files))
    way = chance.choices(("content", "gone", "link", "folder", "unreadable"), (40, 1, 1, 1, 1))[0]
    if way == "content":
        way, content = damaged(files[name], chance)
        (where / name).write_bytes(content)
        return f"{name} {way}"
    (where / name).unlink()
    if way == "link":
        os.symlink("nowhere", where / name)
    elif way == "folder":
        (where / name).mkdir()
    elif way == "unreadable":
        os.mkfifo(where / name)
    return f"{name} {way}"


def opened(where: Path, files: dict[str, bytes], chance: random.Random) -> Callable[[], object]:
    """Return what opens the data and reads all of it."""
    path = where / next(iter(files)) if len(files) == 1 else where
    settings: dict[str, Any] = {}
    name = next(iter(files))
    if name.endswith((".wav", ".flac")):
        settings["window"] = 16
    elif name.endswith((".nii", ".nii.gz")):
        settings["window"] = 4
    if chance.random() < 0.3:
        settings["corrupt"] = "skip"
    if chance.random() < 0.3 and "window" not in settings:
        settings["image_size"] = 4
    if "labels.csv" in files and chance.random() < 0.5:
        settings["labels"] = str(where / "labels.csv")
    if chance.random() < 0.2:
        settings["channels"] = chance.choice((1, 3))

    def read() -> None:
        source = open_source(path, **settings)
        for index in range(min(len(source), 16)):
            item = source.read(index)
            assert item.shape == source.shape
            assert np.isfinite(item).all()

    return read


def inspecting(where: Path, files: dict[str, bytes], out: Path) -> list[str]:
    """Return the command that looks at the data."""
    path = where / next(iter(files)) if len(files) == 1 else where
    name = next(iter(files))
    window = ["-s", "data.window=4"] if name.endswith((".wav", ".flac", ".nii", ".nii.gz")) else []
    return ["data", "inspect", str(path), *window, "--out", str(out / "x.png")]
