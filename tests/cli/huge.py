"""Files that promise far more than they are, read in one fresh process whose memory is watched.

``python -m tests.cli.huge FOLDER`` writes them there and prints a line of JSON for each.
"""

import gzip
import io
import json
import os
import resource
import signal
import struct
import sys
import tarfile
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import nibabel
import numpy as np
import pillow_heif
import pydicom
import soundfile
from PIL import Image

from tests.data.sources.test_dicom import write as dicom
from tests.data.sources.test_videos import write as video

ZEROS = 128 << 20
"""Bytes that a bomb unpacks to."""
WORK = 100
"""Seconds of this process's own work, on whatever else the machine is busy, that a file may take.

The files take less than one; what they promise would take days.
"""
ROOM = 1 << 30
"""Memory that may be had beyond what the process has at first: more is a MemoryError."""


def zeros() -> Iterator[bytes]:
    yield from (bytes(1 << 20) for _ in range(ZEROS >> 20))


def npy(shape, descr="<f4", body=b"0" * 100):
    file = io.BytesIO()
    facts = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, facts)
    return file.getvalue() + body


def npz(shape, method):
    file = io.BytesIO()
    with (
        zipfile.ZipFile(file, "w", method) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(shape, "|u1", b""))
        for part in zeros():
            member.write(part)
    return file.getvalue()


def nifti(sizes, start=352, extension=0, body=()):
    header = bytearray(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4)).to_bytes())
    header[40:56] = np.array([3, *sizes, 1, 1, 1, 1], "<i2").tobytes()
    header[108:112] = struct.pack("<f", start)
    after = struct.pack("<4Bii", 1, 0, 0, 0, extension, 6) if extension else bytes(4)
    return b"".join([bytes(header[:348]), after, *body])


def deflated(start, parts, wbits=31):
    packer = zlib.compressobj(9, wbits=wbits)
    return b"".join([packer.compress(start), *map(packer.compress, parts), packer.flush()])


def sound(kind, places):
    file = io.BytesIO()
    soundfile.write(file, np.zeros(100), 8000, format=kind, subtype="PCM_16")
    content = bytearray(file.getvalue())
    for place, value in places.items():
        content[place : place + len(value)] = value
    return bytes(content)


def hdf5(write: Callable[[h5py.File], None]):
    file = io.BytesIO()
    with h5py.File(file, "w") as opened:
        write(opened)
    return file.getvalue()


def one_chunk(file):
    shape = (1 << 8, ZEROS >> 8)
    data = file.create_dataset("data", shape, "u1", chunks=shape, compression="gzip")
    data.id.write_direct_chunk((0, 0), deflated(b"", zeros(), 15))


def long_labels(file):
    file["data"] = np.zeros((5, 30), np.uint8)
    file.create_dataset("labels", (5,), "S1000000000", chunks=(1,))


def png(side, *chunks):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    parts = [*chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*part) for part in parts)


def picture(kind, place, value):
    """A picture of 4 x 4 with other numbers where its header has the size."""
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, kind)
    content = bytearray(file.getvalue())
    start = content.index(place) + len(place)
    content[start : start + len(value)] = value
    return bytes(content)


def clip(kind):
    file = io.BytesIO()
    first, *others = [Image.new("L", (4, 4), 80 * k) for k in range(3)]
    first.save(file, kind, save_all=True, append_images=others)
    return bytearray(file.getvalue())


def clip_of_65535_squared():
    content = clip("GIF")
    content[6:10] = b"\xff" * 4
    return bytes(content)


def pages_of_65535_squared():
    """The width and the length are the first tags of the first page."""
    content = clip("TIFF")
    start = int.from_bytes(content[4:8], "little")
    for tag in (0, 1):
        place = start + 2 + 12 * tag
        content[place + 2 : place + 12] = b"\4\0\1\0\0\0\xff\xff\0\0"
    return bytes(content)


def scan(**fields):
    """A DICOM file whose header promises more pixels than it has."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.dcm")
        dicom(path, np.zeros((4, 4), np.uint8))
        dataset = pydicom.dcmread(path)
        dataset.update(fields)
        dataset.save_as(path)
        return path.read_bytes()


def heic():
    """A picture of 64 x 64 that says it has 60,000 x 60,000 pixels."""
    file = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(file)
    small, large = (struct.pack(">II", side, side) for side in (64, 60_000))
    assert b"ispe" in file.getvalue()
    return file.getvalue().replace(small, large)


def frames_of_60000_squared():
    with TemporaryDirectory() as folder:
        path = Path(folder, "a.mkv")
        video(path, np.zeros((2, 300, 300, 3), np.uint8), "ffv1", "bgr0")
        size = b"\xb0\x82\x01\x2c\xba\x82\x01\x2c"  # PixelWidth and PixelHeight
        return path.read_bytes().replace(size, size.replace(b"\x01\x2c", b"\xea\x60"))


def tar_header(kind):
    member = tarfile.TarInfo("0.png")
    member.type, member.size = kind, 8**11 - 1
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(1000)


FILES: dict[str, Callable[[], bytes]] = {
    "items.npy": lambda: npy((10**12,)),
    "nothing.npy": lambda: npy((10**12, 3), "<U0"),
    "empty.npy": lambda: npy((0, 10**30)),
    "negative.npy": lambda: npy((-5, -5)),
    "header.npy": lambda: b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'",
    "more.npz": lambda: npz((2, 3), zipfile.ZIP_DEFLATED),
    "dense.npz": lambda: npz((1 << 10, ZEROS >> 10), zipfile.ZIP_BZIP2),
    "sizes.nii": lambda: nifti([32767] * 3),
    "sizes.nii.gz": lambda: gzip.compress(nifti([32767] * 3)),
    "start.nii": lambda: nifti([2] * 3, start=2**31),
    "start.nii.gz": lambda: deflated(nifti([2] * 3, start=ZEROS), zeros()),
    "extension.nii.gz": lambda: deflated(nifti([2] * 3, extension=ZEROS), zeros()),
    "frames.wav": lambda: sound("WAV", {4: b"\xf8\xff\xff\xff", 40: b"\xf8\xff\xff\xff"}),
    "channels.wav": lambda: sound("WAV", {22: struct.pack("<H", 1024)}),
    "rate.wav": lambda: sound("WAV", {24: struct.pack("<I", 1)}),
    "frames.flac": lambda: sound("FLAC", {21: b"\xff" * 5}),
    "sizes.h5": lambda: hdf5(
        lambda file: file.create_dataset("data", (2**20, 2**20), "f4", chunks=(64, 64))
    ),
    "chunk.h5": lambda: hdf5(one_chunk),
    "labels.h5": lambda: hdf5(long_labels),
    "png/a.png": lambda: png(60_000),
    "text/a.png": lambda: png(4, (b"zTXt", b"a\0\0" + deflated(b"", zeros(), 15))),
    "gif/a.gif": lambda: picture("GIF", b"GIF87a", b"\xff\xff\xff\xff"),
    "jpeg/a.jpg": lambda: picture("JPEG", b"\xff\xc0\x00\x0b\x08", b"\xff\xdc\xff\xdc"),
    "bmp/a.bmp": lambda: picture("BMP", b"\x28\0\0\0", struct.pack("<ii", 60_000, 60_000)),
    "webp/a.webp": lambda: picture("WEBP", b"\x9d\x01\x2a", b"\xff\x3f\xff\x3f"),
    "avif/a.avif": lambda: picture("AVIF", b"ispe\0\0\0\0", struct.pack(">II", 60_000, 60_000)),
    "jp2/a.jp2": lambda: picture(
        "JPEG2000", b"\xff\x51\x00\x29\x00\x00", struct.pack(">II", 60_000, 60_000)
    ),
    "heic/a.heic": heic,
    "tga/a.tga": lambda: picture("TGA", bytes(7), b"\0\0\x60\xea\x60\xea"),
    "size.dcm": lambda: scan(Rows=60_000, Columns=60_000),
    "frames.dcm": lambda: scan(NumberOfFrames="60000", Rows=4000, Columns=4000),
    "size.mkv": frames_of_60000_squared,
    "frames.aiff": lambda: sound("AIFF", {22: b"\x7f\xff\xff\xff"}),
    "clip.gif": clip_of_65535_squared,
    "pages.tif": pages_of_65535_squared,
    "pgm/a.pgm": lambda: b"P5 60000 60000 255\n" + bytes(100),
    "size.tar": lambda: tar_header(tarfile.REGTYPE),
    "name.tar": lambda: tar_header(tarfile.GNUTYPE_LONGNAME),
    "pax.tar": lambda: tar_header(tarfile.XHDTYPE),
    "saved/state.json": lambda: b"[" * 200_000,
    "line.csv": lambda: b"1" * (1 << 20),
}
NAMES = [name.partition("/")[0] for name in FILES] + ["{0..99999999999}.tar"]
SETTINGS = {"rate.wav": ["-s", "data.sample_rate=48000"]}
FINE = ("frames.wav", "frames.aiff", "extension.nii.gz")
"""A sound is as long as its file, and extensions are not read."""


def stop_working(number: int, frame: object) -> None:
    """End the command that works as long as a file promises."""
    raise RuntimeError(f"still at work after {WORK} seconds of the processor")


def peak() -> int:
    """Return the most memory that this process has had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main(folder: Path) -> None:
    from iddpm.cli.main import run
    from tests.conftest import TINY, images

    os.chdir(folder)
    for name, make in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(make())
    np.save("good.npy", images(9))
    tiny = [
        word for s in (*TINY, "training.steps=1", "training.batch_size=1") for word in ("-s", s)
    ]
    with redirect_stdout(io.StringIO()):  # what is imported and allocated once is had before
        run(["train", "good.npy", *tiny, "--out", "warm"])
        run(["data", "inspect", "good.npy"])
        (folder / "nothing.wav").touch()
        for name in ("nothing.wav", "png", "sizes.h5", "sizes.nii"):
            with redirect_stderr(io.StringIO()):
                run(["data", "inspect", name])
    status = Path("/proc/self/status").read_text()
    has = int(status.partition("VmData:")[2].split()[0]) << 10
    resource.setrlimit(resource.RLIMIT_DATA, (has + ROOM, has + ROOM))
    signal.signal(signal.SIGVTALRM, stop_working)
    for name in NAMES:
        for command in (["data", "inspect"], ["train", *tiny, "--out", f"run_{name}"]):
            before, said = peak(), io.StringIO()
            signal.setitimer(signal.ITIMER_VIRTUAL, WORK)
            try:
                with redirect_stderr(said), redirect_stdout(io.StringIO()):
                    status = run([*command, name, *SETTINGS.get(name, [])])
            except BaseException:
                status, said = "raised", io.StringIO(traceback.format_exc())
            facts = {
                "name": name,
                "command": command[0],
                "status": status,
                "said": said.getvalue(),
                "grown": peak() - before,
                "left": Path(f"run_{name}").exists(),
            }
            print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
